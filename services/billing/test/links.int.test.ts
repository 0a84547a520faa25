/** Accounts of one person who had several records: two ledgers, seen as one. */
import { randomUUID } from "node:crypto";
import { Code } from "@connectrpc/connect";
import { ErrorInfoSchema } from "@pm/proto/google/rpc/error_details";
import { afterAll, beforeAll, expect, test } from "vitest";
import { openCounter } from "./testing.ts";

let counter: Awaited<ReturnType<typeof openCounter>>;
let own: { headers: { authorization: string } };
beforeAll(async () => {
  counter = await openCounter();
  own = { headers: { authorization: await counter.issuer.service("patient") } };
});
afterAll(async () => counter?.close());

const money = (minorUnits: bigint, currencyCode = "EUR") => ({ minorUnits, currencyCode });

async function open(currencyCode = "EUR") {
  const patient = { ...counter.newPatient(), currencyCode };
  const { accountId } = await counter.client.createBillingAccount(patient, counter.opener);
  return { patientId: patient.patientId, accountId };
}
const charge = (accountId: string, minorUnits: bigint, currencyCode = "EUR") =>
  counter.client.createCharge(
    { accountId, amount: money(minorUnits, currencyCode), description: "Visit", requestId: randomUUID() },
    counter.headers,
  );
const link = (patientId: string, survivorPatientId: string, revision: bigint) =>
  counter.internal.linkAccounts({ patientId, survivorPatientId, revision }, own);
const unlink = (patientId: string, revision: bigint) => counter.internal.unlinkAccounts({ patientId, revision }, own);
const ofPatient = (patientId: string) =>
  counter.client.getBillingAccount({ key: { case: "patientId", value: patientId } }, counter.headers);
const plain = ({ minorUnits, currencyCode }: { minorUnits: bigint; currencyCode: string } = money(0n)) => [minorUnits, currencyCode];

test("either patient has the survivor's account, with both balances per currency and never their sum", async () => {
  const [survivor, same, foreign] = [await open(), await open(), await open("CHF")];
  await charge(survivor.accountId, 1_000n);
  await charge(same.accountId, 200n);
  await charge(foreign.accountId, 500n, "CHF");
  await link(same.patientId, survivor.patientId, 1n);
  await link(foreign.patientId, survivor.patientId, 2n);
  for (const { patientId } of [survivor, same, foreign]) {
    const { account, linkedAccounts, totals } = await ofPatient(patientId);
    expect(account).toMatchObject({ accountId: survivor.accountId, patientId: survivor.patientId, mergedIntoAccountId: "" });
    expect(plain(account?.balance)).toEqual([1_000n, "EUR"]);
    expect(linkedAccounts.map(({ accountId }) => accountId).sort()).toEqual([same.accountId, foreign.accountId].sort());
    expect(totals.map(({ balance }) => plain(balance))).toEqual([[500n, "CHF"], [1_200n, "EUR"]]); // biome-ignore format: a table
  }
  const { account } = await counter.client.getBillingAccount({ key: { case: "accountId", value: same.accountId } }, counter.headers);
  expect(account).toMatchObject({ accountId: same.accountId, mergedIntoAccountId: survivor.accountId });

  const day = new Date().toISOString().slice(0, 10);
  const period = { fromDate: "2026-01-01", toDate: day };
  const statement = await counter.client.getStatement({ accountId: survivor.accountId, ...period }, counter.headers);
  expect(statement.linkedStatements.map((each) => [each.account?.accountId, plain(each.closingBalance), each.transactions.length])).toEqual(
    [same, foreign]
      .map(({ accountId }) => [accountId, accountId === same.accountId ? [200n, "EUR"] : [500n, "CHF"], 1])
      .sort(([a], [b]) => (String(a) < String(b) ? -1 : 1)),
  );
  expect(statement.closingBalances.map(plain)).toEqual([[500n, "CHF"], [1_200n, "EUR"]]); // biome-ignore format: a table
  await charge(survivor.accountId, 1n);
  const paged = { accountId: survivor.accountId, ...period, pageSize: 1 };
  const first = await counter.client.getStatement(paged, counter.headers);
  expect([first.linkedStatements.length, first.closingBalances.length, first.transactions.length]).toEqual([2, 2, 1]);
  const second = await counter.client.getStatement({ ...paged, pageToken: first.nextPageToken }, counter.headers);
  expect([second.linkedStatements, second.closingBalances, second.transactions.length]).toEqual([[], [], 1]);
  const page = (format: string) =>
    fetch(`${counter.billing.url}/billing/statements/${survivor.accountId}?from=2026-01-01&to=${day}&format=${format}`, counter.headers);
  expect(await (await page("html")).text()).toContain(same.accountId);
  expect(await (await page("json")).json()).toMatchObject({ linkedStatements: [{}, {}], closingBalances: [{ currencyCode: "CHF" }, {}] });
  expect((await page("pdf")).status).toBe(200);
});

test("the trail of the survivor has the looks at the linked account, and that of the merged patient has the joint statements", async () => {
  const [survivor, merged] = [await open(), await open()];
  const { accountId } = survivor;
  const auditor = { headers: { authorization: await counter.issuer.person("auditor") } };
  const trail = async ({ patientId }: { patientId: string }) => {
    const path = `/audit/billing?patient=${patientId.toUpperCase()}&disclosures=true`;
    const { items } = (await (await fetch(`${counter.billing.url}${path}`, auditor)).json()) as { items: { action: string }[] };
    return items.map(({ action }) => action);
  };
  await counter.client.listCharges({ accountId: merged.accountId }, counter.headers);
  await link(merged.patientId, survivor.patientId, 1n);
  const linked = ["account.linked", "charges.listed", "account.opened"];
  expect((await trail(survivor)).toSorted()).toEqual([...linked, "account.opened"].toSorted());
  await ofPatient(survivor.patientId);
  const day = new Date().toISOString().slice(0, 10);
  const request = { accountId, fromDate: day, toDate: day };
  await counter.client.getStatement(request, counter.headers);
  await Array.fromAsync(counter.client.streamStatement(request, counter.headers));
  await (await fetch(`${counter.billing.url}/billing/statements/${accountId}?from=${day}&to=${day}&format=json`, counter.headers)).text();
  expect(await trail(merged)).toEqual(["statement.read", "statement.read", "statement.read", "account.read", ...linked]);
});

test("a merged account takes nothing new and names the survivor's, and what it has can be corrected", async () => {
  const [survivor, merged] = [await open(), await open()];
  const { accountId } = merged;
  const { client, headers } = counter;
  const { charge: first } = await charge(accountId, 900n);
  const { charge: second } = await charge(accountId, 100n);
  const requestId = randomUUID();
  const paid = { accountId, amount: money(300n), method: 1, requestId };
  const { payment } = await client.recordPayment(paid, headers);
  const draft = await client.createInvoice({ accountId, chargeIds: [first?.chargeId ?? ""], requestId: randomUUID() }, headers);
  await link(merged.patientId, survivor.patientId, 1n);
  const invoiceId = draft.invoice?.invoiceId ?? "";
  const refused = [
    () => charge(accountId, 1n),
    () => client.recordPayment({ ...paid, requestId: randomUUID() }, headers),
    () => client.createInvoice({ accountId, requestId: randomUUID() }, headers),
    () => client.issueInvoice({ invoiceId, requestId: randomUUID() }, headers),
  ];
  for (const call of refused) {
    const error = await counter.failure(call());
    const [info] = error.findDetails(ErrorInfoSchema);
    expect([error.code, info?.reason, info?.metadata]).toEqual([
      Code.FailedPrecondition,
      "ACCOUNT_MERGED",
      { survivorAccountId: survivor.accountId },
    ]);
  }
  // A request of before gets its answer again.
  expect((await client.recordPayment(paid, headers)).payment?.paymentId).toBe(payment?.paymentId);
  await client.voidInvoice({ invoiceId, reason: "Merged", requestId: randomUUID() }, headers);
  await client.voidCharge({ chargeId: second?.chargeId ?? "", reason: "Twice", requestId: randomUUID() }, headers);
  await client.refundPayment(
    { paymentId: payment?.paymentId ?? "", amount: money(100n), reason: "Too much", requestId: randomUUID() },
    headers,
  );
  expect(plain((await ofPatient(merged.patientId)).totals[0]?.balance)).toEqual([700n, "EUR"]);
  await charge(survivor.accountId, 1n);
  await unlink(merged.patientId, 2n);
  await charge(accountId, 1n);
  expect((await ofPatient(merged.patientId)).account?.accountId).toBe(accountId);
  expect((await ofPatient(survivor.patientId)).totals).toEqual([]);
});

test("a link that is repeated or arrives late changes nothing, and leaves no entry", async () => {
  const [survivor, other, merged] = [await open(), await open(), await open()];
  expect(await link(merged.patientId, survivor.patientId, 5n)).toMatchObject({ mergedIntoAccountId: survivor.accountId });
  expect(await link(merged.patientId, survivor.patientId, 5n)).toMatchObject({ mergedIntoAccountId: survivor.accountId });
  expect(await unlink(merged.patientId, 7n)).toMatchObject({ accountId: merged.accountId, mergedIntoAccountId: "" });
  expect(await link(merged.patientId, other.patientId, 6n)).toMatchObject({ mergedIntoAccountId: "" });
  await Promise.all(
    [8n, 10n, 9n].map((revision) => link(merged.patientId, revision === 10n ? survivor.patientId : other.patientId, revision)),
  );
  expect((await ofPatient(merged.patientId)).account?.accountId).toBe(survivor.accountId);
  const entries = await counter.rows(
    "select action, details->>'revision' as revision from audit_entries where subject = $1 and action like 'account.%linked' order by id",
    [merged.accountId],
  );
  expect(entries.slice(0, 2)).toEqual([
    { action: "account.linked", revision: "5" },
    { action: "account.unlinked", revision: "7" },
  ]);
  expect(entries.at(-1)).toEqual({ action: "account.linked", revision: "10" });
});

test("only patient-service links accounts, and waits for one that is not open yet", async () => {
  const [survivor, merged] = [await open(), await open()];
  const asClerk = counter.internal.linkAccounts({ ...merged, survivorPatientId: survivor.patientId, revision: 1n }, counter.headers);
  expect((await counter.failure(asClerk)).code).toBe(Code.PermissionDenied);
  const error = await counter.failure(link(merged.patientId, randomUUID(), 1n));
  expect([error.code, error.findDetails(ErrorInfoSchema)[0]?.reason]).toEqual([Code.FailedPrecondition, "ACCOUNT_NOT_FOUND"]);
  expect((await counter.failure(link(merged.patientId, merged.patientId, 1n))).code).toBe(Code.FailedPrecondition);
});

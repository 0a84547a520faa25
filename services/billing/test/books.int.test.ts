/** The books over the network: the journal of a period as CSV and NDJSON, and the general ledger. */
import { randomUUID } from "node:crypto";
import { afterAll, expect, test } from "vitest";
import { openCounter } from "./testing.ts";

const { billing, issuer, clerk, headers, client, newAccount, rows, close } = await openCounter();
afterAll(close);

const today = new Date().toISOString().slice(0, 10);
const period = `from=2020-01-01&to=${today}`;
const get = (path: string, authorization = clerk) => fetch(`${billing.url}${path}`, { headers: { authorization } });
const amount = (minorUnits: bigint, currencyCode = "EUR") => ({ currencyCode, minorUnits });
const charge = (accountId: string, minorUnits: bigint, description = "Visit", currencyCode = "EUR") =>
  client.createCharge({ accountId, amount: amount(minorUnits, currencyCode), description, requestId: randomUUID() }, headers);

type Line = { transactionId: string; ledgerAccount: string; currencyCode: string; minorUnits: string; day: string; type: string };
const journal = async () => {
  const text = await (await get(`/billing/journal?${period}&format=ndjson`)).text();
  return text
    .trim()
    .split("\n")
    .map((line) => JSON.parse(line) as Line);
};
type LedgerAccount = Record<"currencyCode" | "ledgerAccount" | "opening" | "debits" | "credits" | "closing", string>;
const ledger = async (query: string) =>
  ((await (await get(`/billing/general-ledger?${query}`)).json()) as { accounts: LedgerAccount[] }).accounts;
const sumOf = (lines: Line[]) => lines.reduce((sum, { minorUnits }) => sum + BigInt(minorUnits), 0n);

test("the journal has every entry once, each transaction balances, and the general ledger is its sum", { timeout: 120_000 }, async () => {
  const accountId = await newAccount();
  await Promise.all(Array.from({ length: 1_100 }, () => charge(accountId, 10n)));
  const forints = await newAccount();
  await client.updateBillingAccount({ account: { accountId: forints, currencyCode: "HUF" }, requestId: randomUUID() }, headers);
  await charge(forints, 700n, "Visit", "HUF");
  await client.createInvoice({ accountId, issue: true, requestId: randomUUID() }, headers);
  const pay = { accountId, amount: amount(4_000n), requestId: randomUUID() };
  const { payment } = await client.recordPayment(pay, headers);
  await client.refundPayment({ paymentId: payment?.paymentId ?? "", reason: "Too much", requestId: randomUUID() }, headers);
  const { invoices } = await client.listInvoices({ accountId }, headers);
  const target = { case: "invoiceId" as const, value: invoices[0]?.invoiceId ?? "" };
  await client.writeOff({ target, amount: amount(250n), reason: "Insolvent", requestId: randomUUID() }, headers);

  const lines = await journal();
  const [{ count }] = await rows("select count(*)::int as count from entries");
  expect(lines).toHaveLength(count);
  expect(new Set(lines.map((line) => `${line.transactionId} ${line.ledgerAccount}`)).size).toBe(count);
  for (const each of Map.groupBy(lines, (line) => line.transactionId).values()) expect(sumOf(each)).toBe(0n);
  expect(lines.every((line) => line.day === today)).toBe(true);

  const accounts = await ledger(period);
  const closings = new Map<string, string>(accounts.map((each) => [`${each.currencyCode} ${each.ledgerAccount}`, each.closing]));
  const inJournal = Map.groupBy(lines, (line) => `${line.currencyCode} ${line.ledgerAccount}`);
  expect(new Map([...inJournal].map(([key, each]) => [key, String(sumOf(each))]))).toEqual(closings);
  expect(closings.get("EUR BAD_DEBT")).toBe("250");
  expect(closings.get("HUF REVENUE")).toBe("-700");
  const later = await ledger("from=2100-01-01&to=2100-12-31");
  expect(later.map(({ opening, debits, closing }) => [opening === closing, debits])).toEqual(accounts.map(() => [true, "0"]));
});

test("the journal as CSV has a header, whole minor units, and no cell that a spreadsheet runs", async () => {
  const accountId = await newAccount();
  const { charge: made } = await charge(accountId, 1_250n, '=HYPERLINK("x"), "quoted"');
  const answer = await get(`/billing/journal?${period}`);
  expect(answer.headers.get("content-type")).toBe("text/csv; charset=utf-8");
  expect(answer.headers.get("content-disposition")).toContain(`journal-2020-01-01-${today}.csv`);
  const lines = (await answer.text()).trim().split("\n");
  expect(lines[0]).toBe("transactionId,postedAt,day,accountId,sequence,type,description,ledgerAccount,currencyCode,minorUnits");
  const own = lines.filter((line) => line.includes(accountId));
  expect(own.map((line) => line.split(",").slice(-3))).toEqual([
    ["RECEIVABLE", "EUR", "1250"],
    ["REVENUE", "EUR", "-1250"],
  ]);
  expect(own[0]).toContain(`"'=HYPERLINK(""x""), ""quoted"""`);
  expect(made).toBeDefined();
});

test("the general ledger as CSV and NDJSON has a line for each currency and ledger account, with the sums of its JSON", async () => {
  await charge(await newAccount(), 3_400n);
  const accounts = await ledger(period);
  const columns = ["currencyCode", "ledgerAccount", "opening", "debits", "credits", "closing"] as const;
  const csv = await get(`/billing/general-ledger?${period}&format=csv`);
  expect([csv.headers.get("content-type"), csv.headers.get("content-disposition")]).toEqual([
    "text/csv; charset=utf-8",
    `attachment; filename="general-ledger-2020-01-01-${today}.csv"`,
  ]);
  const lines = accounts.map((each) => columns.map((column) => each[column]).join(","));
  expect((await csv.text()).trimEnd().split("\n")).toEqual([columns.join(","), ...lines]);
  const ndjson = await get(`/billing/general-ledger?${period}&format=ndjson`);
  expect(ndjson.headers.get("content-type")).toBe("application/x-ndjson");
  const objects = (await ndjson.text()).trimEnd().split("\n");
  expect(objects.map((line) => JSON.parse(line))).toEqual(accounts);
});

test("a format that a page does not have and a parameter that it does not know are refused by name", async () => {
  const documents = [`invoices/${randomUUID()}`, `credit-notes/${randomUUID()}`, `statements/${randomUUID()}`];
  for (const path of [...documents, `payers/${randomUUID()}/statement`, "journal", "tax-summary", "general-ledger"]) {
    const answer = await get(`/billing/${path}?${period}&currency=EUR&format=xml&bogus=1`);
    const { errors } = (await answer.json()) as { errors: { path: string }[] };
    const named = errors.map((error) => error.path);
    expect([path, answer.status, named]).toEqual([path, 400, expect.arrayContaining(["format", "bogus"])]);
  }
});

test("a period that is none is refused by field, and only people with billing:read see the books", async () => {
  for (const [query, field] of [
    ["from=2026-02-30&to=2026-03-01", "from"],
    ["from=2026-03-01&to=2026-02-01", "to"],
    ["from=2026-03-01", "to"],
  ])
    for (const path of ["journal", "general-ledger", `statements/${randomUUID()}`, `payers/${randomUUID()}/statement`]) {
      const answer = await get(`/billing/${path}?${query}${path.startsWith("payers") ? "&currency=EUR" : ""}`);
      expect([answer.status, JSON.stringify(await answer.json())]).toEqual([400, expect.stringContaining(`"${field}"`)]);
    }
  for (const path of ["journal", "general-ledger"])
    expect((await get(`/billing/${path}?${period}`, await issuer.person("user"))).status).toBe(403);
});

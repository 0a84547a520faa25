/** Amounts of before requests had a bound: everything that works with smaller amounts works with them. */
import { randomUUID } from "node:crypto";
import { ErrorInfoSchema } from "@pm/proto/google/rpc/error_details";
import { afterAll, expect, test } from "vitest";
import { maxMinorUnits } from "../src/ledger/postings.ts";
import { verifyLedger } from "../src/ledger/verification-store.ts";
import { openCounter, openReplica } from "./testing.ts";

const { billing, issuer, headers, client, clerk, newAccount, rows, failure, post, databaseUrl, close } = await openCounter();
// Only the validation of requests has the bound. The ledger takes every amount that a balance may have.
const ledger = openReplica(databaseUrl);
afterAll(async () => {
  await ledger.close();
  await close();
});

const today = new Date().toISOString().slice(0, 10);
const euros = (minorUnits: bigint) => ({ currencyCode: "EUR", minorUnits });
const reasonOf = async (call: Promise<unknown>) => (await failure(call)).findDetails(ErrorInfoSchema)[0]?.reason;
const page = (path: string, authorization = clerk) => fetch(`${billing.url}${path}`, { headers: { authorization } });

test("a charge of 2^53 is read, invoiced, paid, refunded and voided, and the ledger holds", async () => {
  const accountId = await newAccount();
  const chargeId = (await ledger.charge(accountId, maxMinorUnits)).charge?.chargeId ?? "";
  const { account } = await client.getBillingAccount({ key: { case: "accountId", value: accountId } }, headers);
  expect(account).toMatchObject({ balance: euros(maxMinorUnits), outstanding: euros(maxMinorUnits), credit: euros(0n) });
  expect(await (await post("ListCharges", JSON.stringify({ accountId }))).json()).toMatchObject({
    charges: [{ chargeId, amount: { minorUnits: "9007199254740992" } }],
  });
  const { transactions } = await client.listTransactions({ accountId }, headers);
  expect(transactions).toMatchObject([{ amount: euros(maxMinorUnits), balance: euros(maxMinorUnits) }]);

  const { invoice } = await client.createInvoice({ accountId, issue: true, requestId: randomUUID() }, headers);
  expect(invoice).toMatchObject({ total: euros(maxMinorUnits), outstanding: euros(maxMinorUnits) });
  expect(await (await page(`/billing/invoices/${invoice?.invoiceId}`)).text()).toContain("€90,071,992,547,409.92");
  expect((await page(`/billing/invoices/${invoice?.invoiceId}?format=pdf`)).status).toBe(200);

  expect(await reasonOf(client.createCharge({ accountId, amount: euros(1n), description: "X", requestId: randomUUID() }, headers))).toBe(
    "BALANCE_LIMIT",
  );
  const paymentId = (await ledger.pay(accountId, maxMinorUnits)).payment?.paymentId ?? "";
  const refund = (amount?: bigint) =>
    client.refundPayment({ paymentId, reason: "Mistake", requestId: randomUUID(), ...(amount && { amount: euros(amount) }) }, headers);
  await refund(10n ** 12n);
  expect((await refund()).refund?.amount).toMatchObject(euros(maxMinorUnits - 10n ** 12n));

  await client.voidInvoice({ invoiceId: invoice?.invoiceId ?? "", reason: "Mistake", requestId: randomUUID() }, headers);
  const { charge } = await client.voidCharge({ chargeId, reason: "Mistake", requestId: randomUUID() }, headers);
  expect(charge).toMatchObject({ amount: euros(maxMinorUnits), outstanding: euros(0n) });
  const again = await client.createCharge({ accountId, amount: euros(1n), description: "X", requestId: randomUUID() }, headers);
  expect(again.charge?.outstanding).toMatchObject(euros(1n));
  expect(await verifyLedger(ledger.db.pool)).toMatchObject({ holds: true, findings: [] });
});

test("sums above 2^53 are exact in statements, on pages and in the totals", async () => {
  const accountId = await newAccount();
  for (let count = 0; count < 3; count++) {
    const { charge } = await ledger.charge(accountId, maxMinorUnits);
    await ledger.void(charge?.chargeId ?? "");
  }
  const others = await Promise.all([newAccount(), newAccount(), newAccount()]);
  await Promise.all(others.map((other) => ledger.charge(other, maxMinorUnits - 1n)));
  const path = `/billing/statements/${accountId}?from=${today}&to=${today}`;
  expect(await (await page(`${path}&format=json`)).json()).toMatchObject({
    charged: { minorUnits: "27021597764222976" },
    voided: { minorUnits: "27021597764222976" },
  });
  expect(await (await page(path)).text()).toContain("€270,215,977,642,229.76");

  const { currencies } = (await (await page("/billing:totals", await issuer.service("analytics"))).json()) as {
    currencies: { currencyCode: string; charged: string; outstanding: string }[];
  };
  const [stored] = await rows("select sum(amount)::text as charged from charges");
  const [open] = await rows("select sum(receivable)::text as outstanding from accounts");
  expect(BigInt(open.outstanding)).toBeGreaterThan(maxMinorUnits * 2n);
  expect(currencies).toMatchObject([{ currencyCode: "EUR", charged: stored.charged, outstanding: open.outstanding }]);
});

test("a statement whose sums no answer holds is refused with what to do, and its transactions are listed", async () => {
  const accountId = await newAccount();
  await rows(
    `insert into transactions (id, account_id, sequence, type, amount, balance, description, request_id, created_at)
      select gen_random_uuid(), $1, n, 'CHARGE', $2, $2, '', gen_random_uuid(), now() from generate_series(1, 1024) n`,
    [accountId, maxMinorUnits],
  );
  const error = await failure(client.getStatement({ accountId, fromDate: today, toDate: today }, headers));
  expect(error.findDetails(ErrorInfoSchema)[0]?.reason).toBe("STATEMENT_TOO_LONG");
  expect(error.rawMessage).toContain("list the transactions");
  expect((await client.listTransactions({ accountId, pageSize: 1000 }, headers)).transactions).toHaveLength(1_000);
});

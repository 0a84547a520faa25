/** One account that everybody uses at once, with as many connections as a service has by default. */
import { randomUUID } from "node:crypto";
import { connectClient } from "@pm/kit/postgres/database";
import { testDatabase } from "@pm/stack/testing";
import { afterAll, expect, test } from "vitest";
import { verifyLedger } from "../src/ledger/verification-store.ts";
import { openReplica } from "./testing.ts";

const lanes = Array.from({ length: 32 }, (_, lane) => lane);
const database = await testDatabase("billing");
const billing = openReplica(database.databaseUrl);
afterAll(async () => {
  await billing.close();
  await database.drop();
});

async function chargeOf(accountId: string): Promise<string> {
  const { charge } = await billing.charge(accountId, 100n);
  return charge?.chargeId ?? "";
}

test("invoices that wait for one account leave connections to others, and are all made when it is free", { timeout: 60_000 }, async () => {
  const [hot, other] = [await billing.newAccount(), await billing.newAccount()];
  const charges = await Promise.all(lanes.map(() => chargeOf(hot)));
  const holder = await connectClient({ url: database.databaseUrl }, "holder");
  await holder.query("begin");
  await holder.query("select from accounts where id = $1 for no key update", [hot]);
  const invoices = Promise.allSettled(charges.map((charge) => billing.createInvoice({ accountId: hot, chargeIds: [charge], issue: true })));
  // Longer than a service waits for a new connection.
  const end = performance.now() + 4_000;
  for (; performance.now() < end; await new Promise((resolve) => setTimeout(resolve, 100))) {
    await billing.charge(other, 100n);
    expect(billing.db.pool.waitingCount).toBe(0);
  }
  await holder.query("commit");
  await holder.end();
  expect((await invoices).map((invoice) => (invoice.status === "fulfilled" ? "made" : String(invoice.reason)))).toEqual(
    lanes.map(() => "made"),
  );
});

test("32 lanes charge, invoice and pay one account at once without a failure", { timeout: 120_000 }, async () => {
  const accountId = await billing.newAccount();
  const lane = async () => {
    const charge = await chargeOf(accountId);
    const { invoice } = await billing.createInvoice({ accountId, chargeIds: [charge], issue: true });
    await billing.pay(accountId, 100n, randomUUID(), [{ invoice: invoice?.invoiceId ?? "" }]);
  };
  for (let round = 0; round < 3; round++) await Promise.all(lanes.map(lane));
  expect(await billing.accounts.get({ accountId })).toMatchObject({ receivable: 0n, credit: 0n, revenue: 9_600n, cash: 9_600n });
  expect(await verifyLedger(billing.db.pool)).toMatchObject({ holds: true, findings: [] });
});

/** Billing over gRPC: charges and payments over many accounts and over one, reads, and statements in a ledger of a million entries. */
import { randomUUID } from "node:crypto";
import { createClient } from "@connectrpc/connect";
import { createGrpcTransport } from "@connectrpc/connect-node";
import { BillingService, PaymentMethod } from "@pm/proto/billing/v1/billing";
import pg from "pg";
import type { Rows } from "./context.ts";

const accountCount = 500;
const hotCallers = 32;
/** Accounts of the big ledger, and transactions of each; one more account has ten thousand. */
const bigAccounts = 1_000;
const transactionsEach = 490;
const transactionsOfOne = 10_000;

export const rows: Rows = async ({ platform, token }) => {
  const client = createClient(BillingService, createGrpcTransport({ baseUrl: platform.services.billing.url }));
  const headers = async () => ({ headers: { authorization: `Bearer ${await token()}` } });
  const amount = { currencyCode: "EUR", minorUnits: 1_250n };
  const accounts: string[] = [];
  let hot = "";
  let big: string[] = [];

  async function openAccounts(): Promise<void> {
    if (accounts.length > 0) return;
    const requests = Array.from({ length: accountCount }, (_, index) => ({
      patientId: randomUUID(),
      name: `Bench Person ${index}`,
      email: `bench-${index}@example.com`,
      requestId: randomUUID(),
    }));
    const answer = await client.batchCreateBillingAccounts({ requests }, await headers());
    accounts.push(...answer.accounts.map((account) => account.accountId));
  }
  async function openHot(): Promise<void> {
    const patient = { patientId: randomUUID(), name: "Everybody", email: "everybody@example.com" };
    hot = (await client.createBillingAccount(patient, await headers())).accountId;
  }
  async function fill(): Promise<void> {
    big = await fillLedger(platform.databases.billing.migrationDatabaseUrl);
  }
  const charge = async (accountId: string) =>
    client.createCharge({ accountId, amount, description: "Consultation", requestId: randomUUID() }, await headers());
  const pay = async (accountId: string) =>
    client.recordPayment({ accountId, amount, method: PaymentMethod.CARD, requestId: randomUUID() }, await headers());
  const account = (iteration: number) => accounts[iteration % accounts.length] as string;
  /** A month somewhere in the two years before today. */
  const month = (iteration: number) => {
    const end = new Date(Date.now() - (iteration % 24) * 30 * 86_400_000);
    const start = new Date(end.getTime() - 30 * 86_400_000);
    return { fromDate: start.toISOString().slice(0, 10), toDate: end.toISOString().slice(0, 10) };
  };

  return [
    { name: "CreateCharge", prepare: openAccounts, request: (_, i) => charge(account(i)), limits: { cpuMs: 1.2 } },
    { name: "RecordPayment", prepare: openAccounts, request: (_, i) => pay(account(i)) },
    {
      name: "GetBillingAccount",
      prepare: openAccounts,
      request: async (_, i) => client.getBillingAccount({ key: { case: "accountId", value: account(i) } }, await headers()),
    },
    // Any failure ends the bench.
    { name: "CreateCharge, one hot account", concurrency: hotCallers, prepare: openHot, request: () => charge(hot) },
    { name: "RecordPayment, one hot account", concurrency: hotCallers, request: () => pay(hot) },
    {
      name: "GetStatement of a month, 1,000,000 entries",
      // Statements are read by people, not by sixteen at once: what counts is how long one of them waits.
      concurrency: 4,
      prepare: fill,
      request: async (_, i) => client.getStatement({ accountId: big[i % big.length] as string, ...month(i) }, await headers()),
      limits: { p99Ms: 50 },
    },
    {
      name: "GetStatement of a month, account of 10,000 transactions",
      concurrency: 4,
      request: async (_, i) => client.getStatement({ accountId: big[0] as string, ...month(i) }, await headers()),
    },
  ];
};

/** Writes a ledger of a million entries over two years, as charges that are paid at once, so that `ledger:verify` holds for it too. */
async function fillLedger(ownerUrl: string): Promise<string[]> {
  const client = new pg.Client({ connectionString: ownerUrl });
  await client.connect();
  try {
    await client.query("begin");
    await client.query(`create temporary table plan on commit drop as
      select gen_random_uuid() as account_id, number, case when number = 1 then ${transactionsOfOne} else ${transactionsEach} end as count
      from generate_series(1, ${bigAccounts + 1}) as number`);
    // Suspended, because reconciliation would suspend them one by one while they are read: their patients do not exist.
    await client.query(`insert into accounts (id, patient_id, currency, status, name, email, revenue, cash, transaction_count, created_at, updated_at)
      select account_id, gen_random_uuid(), 'EUR', 'SUSPENDED', 'Bench', 'bench@example.com', count / 2 * 1000, count / 2 * 1000, count, now() - interval '2 years', now() from plan`);
    await client.query(`create temporary table step on commit drop as
      select account_id, sequence, gen_random_uuid() as id, gen_random_uuid() as subject, gen_random_uuid() as request_id,
        now() - interval '2 years' + interval '730 days' * sequence / (count + 1) as at
      from plan cross join lateral generate_series(1, count) as sequence`);
    await client.query(`insert into transactions (id, account_id, sequence, type, amount, balance, charge_id, payment_id, description, request_id, created_at)
      select id, account_id, sequence, case when sequence % 2 = 1 then 'CHARGE' else 'PAYMENT' end, case when sequence % 2 = 1 then 1000 else -1000 end,
        case when sequence % 2 = 1 then 1000 else 0 end, case when sequence % 2 = 1 then subject end, case when sequence % 2 = 0 then subject end, 'Bench', request_id, at
      from step`);
    await client.query(`insert into requests (id, method, hash, response, created_at) select request_id, 'Bench', '', '', at from step`);
    await client.query(`insert into entries (transaction_id, ledger_account, currency, amount)
      select id, 'RECEIVABLE', 'EUR', case when sequence % 2 = 1 then 1000 else -1000 end from step
      union all select id, case when sequence % 2 = 1 then 'REVENUE' else 'CASH' end, 'EUR', case when sequence % 2 = 1 then -1000 else 1000 end from step`);
    await client.query(`insert into charges (id, account_id, sequence, transaction_id, amount, settled, description, service_date, created_at)
      select subject, account_id, sequence, id, 1000, 1000, 'Bench', at::date, at from step where sequence % 2 = 1`);
    await client.query(`insert into payments (id, account_id, sequence, transaction_id, amount, allocated, method, reference, created_at)
      select subject, account_id, sequence, id, 1000, 1000, 'CARD', '', at from step where sequence % 2 = 0`);
    await client.query(`insert into allocations (transaction_id, payment_id, charge_id, amount)
      select paid.id, paid.subject, charged.subject, 1000 from step paid join step charged using (account_id)
      where paid.sequence % 2 = 0 and charged.sequence = paid.sequence - 1`);
    const { rows: accounts } = await client.query<{ account_id: string }>("select account_id from plan order by number");
    await client.query("commit");
    await client.query("analyze");
    return accounts.map((row) => row.account_id);
  } finally {
    await client.end();
  }
}

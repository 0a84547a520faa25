/** A ledger of a million entries over two years: charges paid at once, so that `ledger:verify` holds. */
import pg from "pg";

const accounts = 1_000;
const transactionsEach = 490;
/** One more account is larger than all others. */
const transactionsOfOne = 10_000;

/** Fills the ledger and returns the ids of the accounts, the largest one first. */
export async function fillLedger(ownerUrl: string): Promise<string[]> {
  const client = new pg.Client({ connectionString: ownerUrl });
  await client.connect();
  try {
    await client.query("begin");
    await client.query(`create temporary table plan on commit drop as
      select gen_random_uuid() as account_id, number, case when number = 1 then ${transactionsOfOne} else ${transactionsEach} end as count
      from generate_series(1, ${accounts + 1}) as number`);
    // Their patients do not exist. Suspend the accounts now, or reconciliation does it during the measurement.
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
    const { rows: filled } = await client.query<{ account_id: string }>("select account_id from plan order by number");
    await client.query("commit");
    await client.query("analyze");
    return filled.map((row) => row.account_id);
  } finally {
    await client.end();
  }
}

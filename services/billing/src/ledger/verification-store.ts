/**
 * Proves that everything that is derived from the facts (balances, open amounts, numbers) follows from them. It reads
 * one snapshot and changes nothing.
 */
import type { Pool } from "pg";

/** A rule that does not hold, with the ids of up to 20 rows that break it. */
type Finding = { rule: string; ids: string[] };
type Verification = { holds: boolean; transactions: number; entries: number; accounts: number; findings: Finding[] };

/** Each statement selects the ids of the rows that break its rule. */
const rules: Record<string, string> = {
  "the entries of every transaction sum to zero, and only a reallocation has none": `
    select t.id from transactions t left join (select transaction_id, sum(amount) as sum from entries group by transaction_id, currency) e
      on e.transaction_id = t.id where e.sum is distinct from case when type = 'REALLOCATION' then null else 0 end`,
  "entries are in the currency of their account": `
    select t.id from entries e join transactions t on t.id = e.transaction_id join accounts a on a.id = t.account_id where e.currency <> a.currency`,
  "the balances of an account are the sums of its entries": `
    select a.id from accounts a left join (
      select account_id,
        coalesce(sum(e.amount) filter (where ledger_account = 'RECEIVABLE'), 0) as receivable,
        coalesce(-sum(e.amount) filter (where ledger_account = 'CREDIT'), 0) as credit,
        coalesce(-sum(e.amount) filter (where ledger_account = 'REVENUE'), 0) as revenue,
        coalesce(sum(e.amount) filter (where ledger_account = 'CASH'), 0) as cash,
        coalesce(sum(e.amount) filter (where ledger_account = 'BAD_DEBT'), 0) as bad_debt,
        coalesce(-sum(e.amount) filter (where ledger_account = 'TAX_PAYABLE'), 0) as tax_payable
      from entries e join transactions t on t.id = e.transaction_id group by account_id
    ) s on s.account_id = a.id
    where (a.receivable, a.credit, a.revenue, a.cash, a.bad_debt, a.tax_payable) is distinct from (coalesce(s.receivable, 0),
      coalesce(s.credit, 0), coalesce(s.revenue, 0), coalesce(s.cash, 0), coalesce(s.bad_debt, 0), coalesce(s.tax_payable, 0))`,
  "an account's transactions are numbered without gaps": `
    select a.id from accounts a left join (
      select account_id, count(*) as count, max(sequence) as last from transactions group by account_id
    ) t on t.account_id = a.id
    where (a.transaction_count, a.transaction_count) is distinct from (coalesce(t.count, 0), coalesce(t.last, 0))`,
  "every transaction leads from one balance to the next": `
    select id from (
      select id, balance, amount, lag(balance, 1, 0::bigint) over (partition by account_id order by sequence) as before from transactions
    ) t where balance <> before + amount`,
  "a transaction's amount is what its entries do to the balance": `
    select t.id from transactions t left join (
      select transaction_id, sum(amount) as sum from entries where ledger_account in ('RECEIVABLE', 'CREDIT') group by transaction_id
    ) e on e.transaction_id = t.id where coalesce(e.sum, 0) <> t.amount`,
  "time runs with the sequence": `
    select id from (
      select id, created_at, lag(created_at) over (partition by account_id order by sequence) as before from transactions
    ) t where created_at < before`,
  "a charge is settled by what is allocated to it": `
    select c.id from charges c left join (select charge_id, sum(amount) as sum from allocations group by charge_id) s on s.charge_id = c.id
    where c.settled <> coalesce(s.sum, 0)`,
  "discounts, credit notes and write-offs have taken off a charge what they say": `
    select c.id from charges c left join (
      select r.charge_id, sum(r.amount) filter (where type <> 'WRITE_OFF') as reduced, sum(r.amount) filter (where type = 'WRITE_OFF') as written_off
      from reductions r join transactions t on t.id = r.transaction_id group by r.charge_id
    ) s on s.charge_id = c.id where c.reduced <> coalesce(s.reduced, 0) or c.written_off <> coalesce(s.written_off, 0)`,
  "the tax on a charge is what was posted with it, less what was taken off": `
    select c.id from charges c left join (
      select charge_id, sum(tax) as sum from (
        select t.charge_id, -e.amount as tax from transactions t join entries e on e.transaction_id = t.id
          where e.ledger_account = 'TAX_PAYABLE' and t.type in ('CHARGE', 'VOID')
        union all select charge_id, -tax from reductions
      ) taxes group by charge_id
    ) s on s.charge_id = c.id where c.tax_payable <> coalesce(s.sum, 0)`,
  "discounts and credit notes have posted the tax that they have taken off charges": `
    select t.id from transactions t join (select transaction_id, sum(tax) as sum from reductions group by transaction_id) r on r.transaction_id = t.id
      left join entries e on e.transaction_id = t.id and e.ledger_account = 'TAX_PAYABLE' where r.sum <> coalesce(e.amount, 0)`,
  "a payment has allocated what its allocations say": `
    select p.id from payments p left join (select payment_id, sum(amount) as sum from allocations group by payment_id) s on s.payment_id = p.id
    where p.allocated <> coalesce(s.sum, 0)`,
  "a payment has refunded what its refunds say": `
    select p.id from payments p left join (select payment_id, sum(amount) as sum from refunds group by payment_id) s on s.payment_id = p.id
    where p.refunded <> coalesce(s.sum, 0)`,
  "what an account owes is open on its charges": `
    select a.id from accounts a left join (
      select account_id, sum(amount - settled - reduced - written_off) as sum from charges where voided_at is null group by account_id
    ) c on c.account_id = a.id where a.receivable <> coalesce(c.sum, 0)`,
  "an account's credit is left of its payments": `
    select a.id from accounts a left join (
      select account_id, sum(amount - allocated - refunded) as sum from payments group by account_id
    ) p on p.account_id = a.id where a.credit <> coalesce(p.sum, 0)`,
  "every transaction belongs to a request that was answered": `
    select t.id from transactions t left join requests r on r.id = t.request_id where r.id is null`,
  "an invoice is the sum of its lines": `
    select i.id from invoices i left join (select invoice_id, sum(amount) as sum from invoice_lines group by invoice_id) l on l.invoice_id = i.id
    where i.total is distinct from l.sum`,
  "a charge is on an invoice that lists it and is not void": `
    select c.id from charges c join invoices i on i.id = c.invoice_id
    where i.status = 'VOID' or not exists (select from invoice_lines l where l.invoice_id = i.id and l.charge_id = c.id)`,
  "a credit note is the sum of what its transaction took off charges of its invoice": `
    select n.id from credit_notes n left join (
      select transaction_id, sum(r.amount) as sum from reductions r group by transaction_id
    ) s on s.transaction_id = n.transaction_id where s.sum is distinct from n.total
    union all select n.id from credit_notes n join reductions r on r.transaction_id = n.transaction_id
      where not exists (select from invoice_lines l where l.invoice_id = n.invoice_id and l.charge_id = r.charge_id)`,
  "every credit note has a transaction, and every such transaction a credit note": `
    select t.id from transactions t left join credit_notes n on n.transaction_id = t.id where (t.type = 'CREDIT_NOTE') <> (n.id is not null)`,
  "credit notes are numbered without gaps": `
    select year::text as id from (
      select y.year, y.last_number, count(n.id) as count, max(split_part(n.number, '-', 3)::int) as last
      from credit_note_years y left join credit_notes n on split_part(n.number, '-', 2)::int = y.year group by y.year, y.last_number
    ) n where (last_number, last_number) is distinct from (count, last)`,
  "invoices are numbered without gaps": `
    select year::text as id from (
      select y.year, y.last_number, count(i.id) as count, max(split_part(i.number, '-', 2)::int) as last
      from invoice_years y left join invoices i on split_part(i.number, '-', 1)::int = y.year group by y.year, y.last_number
    ) n where (last_number, last_number) is distinct from (count, last)`,
};

/** The columns that the rules read, for a role that may read nothing else. None has a name or an address. */
export const verificationReads = {
  accounts: ["id", "currency", "receivable", "credit", "revenue", "cash", "bad_debt", "tax_payable", "transaction_count"],
  allocations: ["charge_id", "payment_id", "amount"],
  charges: ["id", "account_id", "amount", "settled", "reduced", "written_off", "tax_payable", "voided_at", "invoice_id"],
  credit_note_years: ["year", "last_number"],
  credit_notes: ["id", "transaction_id", "invoice_id", "number", "total"],
  entries: ["transaction_id", "ledger_account", "amount", "currency"],
  invoice_lines: ["invoice_id", "charge_id", "amount"],
  invoice_years: ["year", "last_number"],
  invoices: ["id", "number", "status", "total"],
  payments: ["id", "account_id", "amount", "allocated", "refunded"],
  reductions: ["charge_id", "transaction_id", "amount", "tax"],
  refunds: ["payment_id", "amount"],
  requests: ["id"],
  transactions: ["id", "account_id", "type", "sequence", "amount", "balance", "created_at", "charge_id", "request_id"],
};

const maxIds = 20;

export async function verifyLedger(pool: Pool): Promise<Verification> {
  const client = await pool.connect();
  try {
    // One snapshot for all statements, so that they agree while the service writes.
    await client.query("begin isolation level repeatable read read only");
    await client.query("set local statement_timeout = 0");
    const findings: Finding[] = [];
    for (const [rule, statement] of Object.entries(rules)) {
      const { rows } = await client.query<{ id: string }>(`${statement} limit ${maxIds}`);
      if (rows.length > 0) findings.push({ rule, ids: rows.map((row) => row.id) });
    }
    const { rows } = await client.query<{ transactions: number; entries: number; accounts: number }>(
      `select (select count(*)::int from transactions) as transactions, (select count(*)::int from entries) as entries,
        (select count(*)::int from accounts) as accounts`,
    );
    await client.query("commit");
    client.release();
    const counts = rows[0] ?? { transactions: 0, entries: 0, accounts: 0 };
    return { holds: findings.length === 0, ...counts, findings };
  } catch (error) {
    // The transaction is still open, so the connection is closed instead of used again.
    client.release(true);
    throw error;
  }
}

/** Credit notes and discounts in Postgres. */
import type { Statement } from "@pm/kit/postgres/database";
import type { Queries } from "@pm/kit/postgres/transaction";
import type { Addressee, Row } from "../tables.ts";
import { addresseeColumn, type InvoiceLineRow } from "./store.ts";

export type CreditNoteRow = Row<"credit_notes"> & { currency: string; invoice_number: string; addressee: Addressee };
/** What stands on a line, with the tax in its amount. */
export type CreditNoteLineRow = InvoiceLineRow & { tax: bigint };

const insertStatement: Statement = {
  name: "credit_note_insert",
  text: `insert into credit_notes (id, account_id, invoice_id, transaction_id, number, issue_date, total, reason, created_at)
    values ($1, $2, $3, $4, $5, $6, $7, $8, $9)`,
};

export async function insertCreditNote(tx: Queries, note: Row<"credit_notes">): Promise<void> {
  const { id, account_id, invoice_id, transaction_id, number, issue_date, total, reason, created_at } = note;
  await tx.query(insertStatement, [id, account_id, invoice_id, transaction_id, number, issue_date, total, reason, created_at]);
}

const noteColumns = `n.id, n.account_id, n.invoice_id, n.transaction_id, n.number, n.issue_date, n.total, n.reason, n.created_at,
  accounts.currency, invoices.number as invoice_number, ${addresseeColumn}`;
const fromNotes = `from credit_notes n join accounts on accounts.id = n.account_id join invoices on invoices.id = n.invoice_id
  left join payers on payers.id = accounts.payer_id and invoices.number is null`;

const findStatement: Statement = { name: "credit_note_find", text: `select ${noteColumns} ${fromNotes} where n.id = $1` };

export async function findCreditNote(db: Queries, id: string): Promise<CreditNoteRow | undefined> {
  const [row] = await db.query<CreditNoteRow>(findStatement, [id]);
  return row;
}

const linesStatement: Statement = {
  name: "credit_note_lines",
  text: `select r.charge_id, l.description, l.service_date, r.amount, r.tax, c.tax_code, c.tax_rate from reductions r
    join charges c on c.id = r.charge_id
    cross join lateral (
      select description, service_date, position from invoice_lines where invoice_id = $2 and charge_id = r.charge_id order by position limit 1
    ) l
    where r.transaction_id = $1 order by l.position`,
};

/** What a credit note takes off, as the invoice names it. */
export function creditNoteLines(db: Queries, transactionId: string, invoiceId: string): Promise<CreditNoteLineRow[]> {
  return db.query(linesStatement, [transactionId, invoiceId]);
}

const listStatement: Statement = {
  name: "credit_notes_list",
  text: `select ${noteColumns} ${fromNotes}
    where ($1::uuid is null or n.account_id = $1) and ($2::uuid is null or n.invoice_id = $2) and ($3::uuid is null or n.id < $3)
    order by n.id desc limit $4`,
};

/** Credit notes after the id `before`, the newest first: ids rise with time. */
export function listCreditNotes(
  db: Queries,
  filter: { accountId: string | undefined; invoiceId: string | undefined },
  page: { before: string | undefined; limit: number },
): Promise<CreditNoteRow[]> {
  return db.query(listStatement, [filter.accountId ?? null, filter.invoiceId ?? null, page.before ?? null, page.limit]);
}

const discountStatement: Statement = {
  name: "invoice_discount",
  text: `
    with lines as (
      insert into invoice_lines (invoice_id, position, charge_id, description, service_date, amount)
      select $1, (select max(position) from invoice_lines where invoice_id = $1) + part.position, charge_id, $2, service_date, -part.amount
      from unnest($3::uuid[], $4::bigint[]) with ordinality as part (charge_id, amount, position) join charges on id = charge_id
      returning amount
    )
    update invoices set total = total + (select sum(amount) from lines), version = version + 1 where id = $1`,
};

/** Adds a line with a negative amount for each discounted charge. */
export async function addDiscountLines(
  tx: Queries,
  invoiceId: string,
  reason: string,
  parts: { chargeId: string; amount: bigint }[],
): Promise<void> {
  const chargeIds = parts.map(({ chargeId }) => chargeId);
  const amounts = parts.map(({ amount }) => amount);
  await tx.query(discountStatement, [invoiceId, `Discount: ${reason}`, chargeIds, amounts]);
}

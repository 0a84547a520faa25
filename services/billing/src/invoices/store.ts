/** Invoices in Postgres. */
import type { Statement } from "@pm/kit/postgres/database";
import type { Queries } from "@pm/kit/postgres/transaction";
import { type ChargeRow, chargeColumns } from "../ledger/store.ts";
import type { Addressee, Row } from "../tables.ts";
import { nextNumber } from "./number-store.ts";

export type InvoiceRow = Omit<Row<"invoices">, "addressee" | "void_reason"> & {
  addressee: Addressee;
  /** Of its account. */
  currency: string;
  patient_id: string;
  /** The open amount of its charges. */
  outstanding: bigint;
  /** The sum of its credit notes. */
  credited: bigint;
  written_off: bigint;
  /** Its status, and what has become of an issued invoice of which nothing is open. */
  state: Row<"invoices">["status"] | "PAID" | "CREDITED" | "WRITTEN_OFF";
};

/** A line, with the tax of its charge. */
export type InvoiceLineRow = Omit<Row<"invoice_lines">, "position"> & Pick<Row<"charges">, "tax_code" | "tax_rate">;

/**
 * The addressee at issue. Until then, it is the account's payer or else the patient. Invoices of earlier releases have
 * none of their own; they were addressed to the patient.
 */
export const addresseeColumn = `
  coalesce(invoices.addressee, jsonb_build_object(
    'payerId', coalesce(payers.id::text, ''), 'name', coalesce(payers.name, accounts.name), 'address', coalesce(payers.address, ''),
    'email', coalesce(payers.email, accounts.email), 'reference', coalesce(payers.reference, ''), 'patientName', accounts.name
  )) as addressee`;
const invoiceColumns = `invoices.id, invoices.account_id, number, invoices.status, total, issue_date, due_date, invoices.version, invoices.created_at,
  invoices.voided_at, currency, accounts.patient_id, outstanding, credited, written_off, ${addresseeColumn},
  case when invoices.status <> 'ISSUED' or outstanding > 0 then invoices.status
    when written_off > 0 then 'WRITTEN_OFF' when credited > 0 and credited = total then 'CREDITED' else 'PAID' end as state`;
const fromInvoices = `from invoices join accounts on accounts.id = account_id
  left join payers on payers.id = accounts.payer_id and invoices.number is null
  cross join lateral (
    select coalesce(sum(amount - settled - reduced - written_off), 0)::bigint as outstanding, coalesce(sum(written_off), 0)::bigint as written_off
    from charges where invoice_id = invoices.id and voided_at is null
  ) of_charges
  cross join lateral (select coalesce(sum(total), 0)::bigint as credited from credit_notes where invoice_id = invoices.id) of_notes`;

const findStatement: Statement = { name: "invoice_find", text: `select ${invoiceColumns} ${fromInvoices} where invoices.id = $1` };

export async function findInvoice(db: Queries, id: string): Promise<InvoiceRow | undefined> {
  const [row] = await db.query<InvoiceRow>(findStatement, [id]);
  return row;
}

const linesStatement: Statement = {
  name: "invoice_lines_of",
  text: `select l.invoice_id, l.charge_id, l.description, l.service_date, l.amount, c.tax_code, c.tax_rate
    from invoice_lines l join charges c on c.id = l.charge_id where l.invoice_id = any($1::uuid[]) order by l.invoice_id, l.position`,
};

/** The lines of invoices, by invoice. */
export async function linesOf(db: Queries, ids: string[]): Promise<Map<string, InvoiceLineRow[]>> {
  return Map.groupBy(await db.query<InvoiceLineRow>(linesStatement, [ids]), (line) => line.invoice_id);
}

const listOf = (anchor: string) => `
  select * from (
    select ${invoiceColumns} ${fromInvoices} where ($1::uuid is null or invoices.id < $1) and ${anchor}
      and ($7::uuid[] is null or account_id = any($7)) and ($8::uuid[] is null or invoices.id = any($8)) and ($9::text is null or number = $9)
  ) invoice
  where ($2::text[] is null or state = any($2)) and ($3::date is null or (status = 'ISSUED' and outstanding > 0 and due_date < $3))
    and ($4::date is null or issue_date >= $4) and ($5::date is null or issue_date <= $5)
  order by id desc limit $6`;
// Statements of their own, so that Postgres plans each by its index.
const listStatement: Statement = { name: "invoices_list", text: listOf("true") };
const ofAccountsStatement: Statement = { name: "invoices_of_accounts", text: listOf("account_id = any($7)") };
const byIdsStatement: Statement = { name: "invoices_by_ids", text: listOf("invoices.id = any($8)") };
const byNumberStatement: Statement = { name: "invoices_by_number", text: listOf("number = $9") };
const ofPayerStatement: Statement = {
  name: "invoices_of_payer",
  text: listOf(`invoices.id in (
    select id from invoices where addressee ->> 'payerId' = $10::uuid::text
    union all select unnumbered.id from accounts join invoices unnumbered on unnumbered.account_id = accounts.id
      where accounts.payer_id = $10::uuid and unnumbered.number is null
  )`),
};

type InvoiceFilter = {
  accountIds: string[] | undefined;
  states: string[] | undefined;
  dueBefore: string | undefined;
  /** Days of issue. */
  fromDate: string | undefined;
  toDate: string | undefined;
  /** To whom they are addressed. */
  payerId: string | undefined;
  ids: string[] | undefined;
  number: string | undefined;
};

/** Invoices after the id `before`, the newest first: ids rise with time. */
export function listInvoices(
  db: Queries,
  filter: InvoiceFilter,
  page: { before: string | undefined; limit: number },
): Promise<InvoiceRow[]> {
  const { accountIds, states, dueBefore, fromDate, toDate, payerId, ids, number } = filter;
  const parameters = [page.before, states, dueBefore, fromDate, toDate, page.limit, accountIds, ids, number].map((each) => each ?? null);
  if (number) return db.query(byNumberStatement, parameters);
  if (ids) return db.query(byIdsStatement, parameters);
  if (payerId) return db.query(ofPayerStatement, [...parameters, payerId]);
  return db.query(accountIds ? ofAccountsStatement : listStatement, parameters);
}

const uninvoicedStatement: Statement = {
  name: "charges_uninvoiced_of",
  text: `select ${chargeColumns} from charges where account_id = $1 and invoice_id is null and voided_at is null
    and reduced + written_off < amount
    order by sequence limit $2`,
};
const namedStatement: Statement = {
  name: "charges_named",
  text: `select ${chargeColumns} from charges where account_id = $1 and id = any($2::uuid[]) order by sequence`,
};

/**
 * The charges for an invoice: those that are named, in any state; or, if none is, the oldest that are on no invoice and
 * of which something is left.
 */
export function chargesFor(tx: Queries, accountId: string, named: string[], limit: number): Promise<ChargeRow[]> {
  return named.length > 0 ? tx.query(namedStatement, [accountId, named]) : tx.query(uninvoicedStatement, [accountId, limit]);
}

const createStatement: Statement = {
  name: "invoice_create",
  text: `
    with invoice as (
      insert into invoices (id, account_id, status, total, due_date, created_at) values ($1, $2, 'DRAFT', $3, $4, $5)
    ), taken as (
      update charges set invoice_id = $1 where id = any($6::uuid[])
    )
    insert into invoice_lines (invoice_id, position, charge_id, description, service_date, amount)
    select $1, position, id, description, service_date, amount - reduced
    from unnest($6::uuid[]) with ordinality as line (charge_id, position) join charges on id = charge_id`,
};

export async function insertInvoice(
  tx: Queries,
  invoice: { id: string; accountId: string; total: bigint; dueDate: string | null; createdAt: Date; chargeIds: string[] },
): Promise<void> {
  await tx.query(createStatement, [invoice.id, invoice.accountId, invoice.total, invoice.dueDate, invoice.createdAt, invoice.chargeIds]);
}

const issueStatement: Statement = {
  name: "invoice_issue",
  text: "update invoices set status = 'ISSUED', number = $2, issue_date = $3, due_date = $4, addressee = $5, version = version + 1 where id = $1",
};

/** Issues a draft under the next number of its year, with its present addressee, and gives the number. */
export async function issueDraft(tx: Queries, { id, addressee }: InvoiceRow, issueDate: string, dueDate: string): Promise<string> {
  const number = await nextNumber(tx, "invoice", issueDate);
  await tx.query(issueStatement, [id, number, issueDate, dueDate, addressee]);
  return number;
}

const voidStatement: Statement = {
  name: "invoice_void",
  text: `with freed as (update charges set invoice_id = null where invoice_id = $1)
    update invoices set status = 'VOID', voided_at = $2, void_reason = $3, version = version + 1 where id = $1`,
};

/** Voids an invoice and frees its charges for another one. Its lines stay. */
export async function voidInvoice(tx: Queries, id: string, now: Date, reason: string): Promise<void> {
  await tx.query(voidStatement, [id, now, reason]);
}

const chargesOnStatement: Statement = {
  name: "charges_on_invoice",
  text: "select id from charges where invoice_id = $1 order by sequence",
};

/** The ids of the charges on an invoice. */
export async function chargesOn(tx: Queries, invoiceId: string): Promise<string[]> {
  return (await tx.query<Pick<Row<"charges">, "id">>(chargesOnStatement, [invoiceId])).map(({ id }) => id);
}

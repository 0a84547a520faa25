/** The ledger in Postgres: what a posting has to know, and what a batch of postings writes, in one statement. */
import { type AuditEntry, insertIntoAudit } from "@pm/kit/audit/audit";
import { insertIntoOutbox, type OutboxEvent } from "@pm/kit/kafka/outbox";
import type { Statement } from "@pm/kit/postgres/database";
import type { Queries } from "@pm/kit/postgres/transaction";
import type { Row } from "../tables.ts";

export type ChargeRow = Omit<Row<"charges">, "transaction_id" | "tax_payable">;
export type PaymentRow = Omit<Row<"payments">, "transaction_id">;

export const chargeColumns =
  "id, account_id, sequence, amount, tax_code, tax_rate, settled, reduced, written_off, description, service_date, invoice_id, created_at, voided_at";
export const paymentColumns = "id, account_id, sequence, amount, allocated, refunded, method, reference, payment_date, created_at";

/** What discounts, credit notes and write-offs have left of a charge. */
export function leftOn({ amount, reduced, written_off }: Pick<ChargeRow, "amount" | "reduced" | "written_off">): bigint {
  return amount - reduced - written_off;
}

const ownersStatement: Statement = {
  name: "ledger_owners",
  text: `select id, account_id from charges where id = any($1::uuid[])
    union all select id, account_id from payments where id = any($2::uuid[])`,
};

/** The accounts of charges and payments. They never change, so they are read before anything is locked. */
export function findOwners(tx: Queries, chargeIds: string[], paymentIds: string[]): Promise<{ id: string; account_id: string }[]> {
  return tx.query(ownersStatement, [chargeIds, paymentIds]);
}

const openChargesStatement: Statement = {
  name: "ledger_open_charges",
  text: `select charge.* from unnest($1::uuid[]) as wanted (account_id) cross join lateral (
      select ${chargeColumns} from charges
      where account_id = wanted.account_id and settled < amount and settled + reduced + written_off < amount and voided_at is null
      order by sequence limit $2
    ) charge`,
};

const creditsStatement: Statement = {
  name: "ledger_credits",
  text: `select payment.* from unnest($1::uuid[]) as wanted (account_id) cross join lateral (
      select ${paymentColumns} from payments
      where account_id = wanted.account_id and allocated + refunded < amount order by sequence limit $2
    ) payment`,
};

const firstLimit = 20;

/** The oldest open charges of each account, at least as many as `need` minor units can settle, or all of them. */
export function loadOpenCharges(tx: Queries, need: Map<string, bigint>): Promise<ChargeRow[]> {
  return loadOldest<ChargeRow>(tx, openChargesStatement, need, (row) => leftOn(row) - row.settled);
}

/** The oldest payments of each account that have credit left, at least `need` minor units of it, or all of them. */
export function loadCredits(tx: Queries, need: Map<string, bigint>): Promise<PaymentRow[]> {
  return loadOldest<PaymentRow>(tx, creditsStatement, need, (row) => row.amount - row.allocated - row.refunded);
}

/** An account may have 100,000 open charges, of which a small payment needs only the first one. */
async function loadOldest<Item extends { account_id: string }>(
  tx: Queries,
  statement: Statement,
  need: Map<string, bigint>,
  worth: (row: Item) => bigint,
): Promise<Item[]> {
  const rows: Item[] = [];
  let wanted = [...need.keys()];
  for (let limit = firstLimit; wanted.length > 0; limit *= 10) {
    const found = Map.groupBy(await tx.query<Item>(statement, [wanted, limit]), (row) => row.account_id);
    wanted = wanted.filter((accountId) => {
      const ofAccount = found.get(accountId) ?? [];
      const sum = ofAccount.reduce((total, row) => total + worth(row), 0n);
      const isEnough = ofAccount.length < limit || sum >= (need.get(accountId) ?? 0n);
      if (isEnough) rows.push(...ofAccount);
      return !isEnough;
    });
  }
  return rows;
}

const settledStatement: Statement = {
  name: "ledger_settled",
  text: `select payment_id, charge_id, sum(amount)::bigint as amount from allocations
    where charge_id = any($1::uuid[]) or payment_id = any($2::uuid[])
    group by payment_id, charge_id having sum(amount) <> 0`,
};
const chargesStatement: Statement = { name: "ledger_charges", text: `select ${chargeColumns} from charges where id = any($1::uuid[])` };
const paymentsStatement: Statement = { name: "ledger_payments", text: `select ${paymentColumns} from payments where id = any($1::uuid[])` };

const namedStatement: Statement = {
  name: "ledger_named_charges",
  text: `select ${chargeColumns} from charges where id = any($1::uuid[]) or invoice_id = any($2::uuid[])`,
};

/** The charges that payments are to settle: named ones, and those of named invoices. */
export function loadNamedCharges(tx: Queries, chargeIds: string[], invoiceIds: string[]): Promise<ChargeRow[]> {
  return tx.query(namedStatement, [chargeIds, invoiceIds]);
}

/** How much of a payment settles a charge: the sum over all their allocations. */
type SettledRow = Omit<Row<"allocations">, "transaction_id">;

/** What payments settle, the oldest charge first. */
export function settledByPayments(db: Queries, paymentIds: string[]): Promise<SettledRow[]> {
  return db.query(settledStatement, [[], paymentIds]);
}

/**
 * The charges to void and the payments to refund or reallocate, with the payments that settle the former and the
 * charges that the latter settle.
 */
export async function loadTargets(
  tx: Queries,
  chargeIds: string[],
  paymentIds: string[],
): Promise<{ charges: ChargeRow[]; payments: PaymentRow[]; settled: SettledRow[] }> {
  const settled = await tx.query<SettledRow>(settledStatement, [chargeIds, paymentIds]);
  const charges = await tx.query<ChargeRow>(chargesStatement, [[...chargeIds, ...settled.map((row) => row.charge_id)]]);
  const payments = await tx.query<PaymentRow>(paymentsStatement, [[...paymentIds, ...settled.map((row) => row.payment_id)]]);
  return { charges, payments, settled };
}

/** What a batch of postings writes. The keys are columns. */
export type Writes = {
  accounts: Pick<
    Row<"accounts">,
    "id" | "receivable" | "credit" | "revenue" | "cash" | "bad_debt" | "tax_payable" | "transaction_count" | "updated_at"
  >[];
  transactions: Row<"transactions">[];
  entries: Row<"entries">[];
  allocations: Row<"allocations">[];
  reductions: Row<"reductions">[];
  newCharges: Omit<Row<"charges">, "invoice_id" | "voided_at" | "reduced" | "written_off">[];
  charges: Pick<Row<"charges">, "id" | "settled" | "reduced" | "written_off" | "tax_payable" | "voided_at">[];
  newPayments: Row<"payments">[];
  payments: Pick<Row<"payments">, "id" | "allocated" | "refunded">[];
  refunds: Row<"refunds">[];
  requests: Row<"requests">[];
  events: OutboxEvent[];
  audit: AuditEntry[];
};

export function noWrites(): Writes {
  return {
    accounts: [],
    transactions: [],
    entries: [],
    allocations: [],
    reductions: [],
    newCharges: [],
    charges: [],
    newPayments: [],
    payments: [],
    refunds: [],
    requests: [],
    events: [],
    audit: [],
  };
}

// One JSON array for each table. The version of an account counts its changes, and each transaction is a change.
const writeStatement: Statement = {
  name: "ledger_write",
  text: `
    with accounts_written as (
      update accounts set receivable = new.receivable, credit = new.credit, revenue = new.revenue, cash = new.cash, bad_debt = new.bad_debt,
        tax_payable = new.tax_payable, updated_at = new.updated_at,
        version = accounts.version + new.transaction_count - accounts.transaction_count, transaction_count = new.transaction_count
      from json_populate_recordset(null::accounts, $1::json) as new where accounts.id = new.id
    ), transactions_written as (
      insert into transactions (id, account_id, sequence, type, amount, balance, charge_id, payment_id, refund_id, description, request_id, created_at)
      select id, account_id, sequence, type, amount, balance, charge_id, payment_id, refund_id, description, request_id, created_at
      from json_populate_recordset(null::transactions, $2::json)
    ), entries_written as (
      insert into entries (transaction_id, ledger_account, currency, amount)
      select transaction_id, ledger_account, currency, amount from json_populate_recordset(null::entries, $3::json)
    ), new_charges_written as (
      insert into charges (id, account_id, sequence, transaction_id, amount, tax_code, tax_rate, tax_payable, settled, description, service_date, created_at)
      select id, account_id, sequence, transaction_id, amount, tax_code, tax_rate, tax_payable, settled, description, service_date, created_at
      from json_populate_recordset(null::charges, $4::json)
    ), charges_written as (
      update charges set settled = new.settled, reduced = new.reduced, written_off = new.written_off, tax_payable = new.tax_payable, voided_at = new.voided_at
      from json_populate_recordset(null::charges, $5::json) as new where charges.id = new.id
    ), new_payments_written as (
      insert into payments (id, account_id, sequence, transaction_id, amount, allocated, refunded, method, reference, payment_date, created_at)
      select id, account_id, sequence, transaction_id, amount, allocated, refunded, method, reference, payment_date, created_at
      from json_populate_recordset(null::payments, $6::json)
    ), payments_written as (
      update payments set allocated = new.allocated, refunded = new.refunded
      from json_populate_recordset(null::payments, $7::json) as new where payments.id = new.id
    ), refunds_written as (
      insert into refunds (id, payment_id, transaction_id, amount, reason, created_at)
      select id, payment_id, transaction_id, amount, reason, created_at from json_populate_recordset(null::refunds, $8::json)
    ), allocations_written as (
      insert into allocations (transaction_id, payment_id, charge_id, amount)
      select transaction_id, payment_id, charge_id, amount from json_populate_recordset(null::allocations, $9::json)
    ), reductions_written as (
      insert into reductions (transaction_id, charge_id, amount, tax)
      select transaction_id, charge_id, amount, tax from json_populate_recordset(null::reductions, $13::json)
    ), requests_written as (
      insert into requests (id, method, hash, response, created_at, subject)
      select id, method, hash, response, created_at, subject from json_populate_recordset(null::requests, $10::json)
    ), audit_written as (
      ${insertIntoAudit}
      select actor, action, subject, request_id, details from json_populate_recordset(null::audit_entries, $11::json)
    )
    ${insertIntoOutbox}
    select event_id, topic, key, type, payload, traceparent from json_populate_recordset(null::outbox, $12::json)`,
};

/** Writes a batch. The caller holds the locks of all its accounts. */
export async function write(tx: Queries, writes: Writes): Promise<void> {
  const { accounts, transactions, entries, allocations, reductions, newCharges, charges, newPayments, payments, refunds, requests } =
    writes;
  const events = writes.events.map(({ eventId, ...event }) => ({ event_id: eventId, ...event }));
  const audit = writes.audit.map(({ actorId, requestId, ...entry }) => ({ ...entry, actor: actorId, request_id: requestId }));
  const tables = [
    accounts,
    transactions,
    entries,
    newCharges,
    charges,
    newPayments,
    payments,
    refunds,
    allocations,
    requests,
    audit,
    events,
    reductions,
  ];
  await tx.query(writeStatement, tables.map(toJson));
}

/**
 * Rows as JSON that Postgres reads: int8 in quotes, bytes as `\\x…`. A replacer of `JSON.stringify` would take three
 * times as long.
 */
function toJson(rows: object[]): string {
  return JSON.stringify(
    rows.map((row) => {
      const plain: Record<string, unknown> = {};
      for (const [column, value] of Object.entries(row)) {
        if (typeof value === "bigint") plain[column] = value.toString();
        else if (value instanceof Uint8Array)
          plain[column] = `\\x${Buffer.from(value.buffer, value.byteOffset, value.byteLength).toString("hex")}`;
        else plain[column] = value;
      }
      return plain;
    }),
  );
}

/** The ledger in Postgres: what a posting has to know, and everything that a batch of postings writes, in one statement. */

import type { OutboxEvent } from "@pm/kit/kafka/outbox";
import type { Statement } from "@pm/kit/postgres/database";
import type { Actor, Queries, RequestsTable } from "../accounts/store.ts";

export type ChargeRow = {
  id: string;
  account_id: string;
  sequence: bigint;
  amount: bigint;
  settled: bigint;
  description: string;
  service_date: string;
  invoice_id: string | null;
  created_at: Date;
  voided_at: Date | null;
};

export type PaymentRow = {
  id: string;
  account_id: string;
  sequence: bigint;
  amount: bigint;
  allocated: bigint;
  refunded: bigint;
  method: string;
  reference: string;
  created_at: Date;
};

export const chargeColumns = "id, account_id, sequence, amount, settled, description, service_date, invoice_id, created_at, voided_at";
export const paymentColumns = "id, account_id, sequence, amount, allocated, refunded, method, reference, created_at";

const ownersStatement: Statement = {
  name: "ledger_owners",
  text: `select id, account_id from charges where id = any($1::uuid[])
    union all select id, account_id from payments where id = any($2::uuid[])`,
};

/** The accounts of charges and payments, which never change: asked before anything is locked. */
export function findOwners(tx: Queries, chargeIds: string[], paymentIds: string[]): Promise<{ id: string; account_id: string }[]> {
  return tx.query(ownersStatement, [chargeIds, paymentIds]);
}

const openChargesStatement: Statement = {
  name: "ledger_open_charges",
  text: `select charge.* from unnest($1::uuid[]) as wanted (account_id) cross join lateral (
      select ${chargeColumns} from charges
      where account_id = wanted.account_id and settled < amount and voided_at is null order by sequence limit $2
    ) charge`,
};

const creditsStatement: Statement = {
  name: "ledger_credits",
  text: `select payment.* from unnest($1::uuid[]) as wanted (account_id) cross join lateral (
      select ${paymentColumns} from payments
      where account_id = wanted.account_id and allocated + refunded < amount order by sequence limit $2
    ) payment`,
};

const firstLook = 20;

/** The oldest open charges of accounts, enough to take `need` minor units each, or all there are. */
export function loadOpenCharges(tx: Queries, need: Map<string, bigint>): Promise<ChargeRow[]> {
  return loadOldest<ChargeRow>(tx, openChargesStatement, need, (row) => row.amount - row.settled);
}

/** The oldest payments of accounts that have credit left, enough to give `need` minor units each, or all there are. */
export function loadCredits(tx: Queries, need: Map<string, bigint>): Promise<PaymentRow[]> {
  return loadOldest<PaymentRow>(tx, creditsStatement, need, (row) => row.amount - row.allocated - row.refunded);
}

/** An account may have a hundred thousand open charges, and a payment of ten euros needs the first one of them. */
async function loadOldest<Row extends { account_id: string }>(
  tx: Queries,
  statement: Statement,
  need: Map<string, bigint>,
  worth: (row: Row) => bigint,
): Promise<Row[]> {
  const rows: Row[] = [];
  let wanted = [...need.keys()];
  for (let limit = firstLook; wanted.length > 0; limit *= 10) {
    const found = Map.groupBy(await tx.query<Row>(statement, [wanted, limit]), (row) => row.account_id);
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

const allocationsStatement: Statement = {
  name: "ledger_allocations",
  text: `select payment_id, charge_id, sum(amount)::bigint as amount from allocations
    where charge_id = any($1::uuid[]) or payment_id = any($2::uuid[])
    group by payment_id, charge_id having sum(amount) <> 0`,
};
const chargesStatement: Statement = { name: "ledger_charges", text: `select ${chargeColumns} from charges where id = any($1::uuid[])` };
const paymentsStatement: Statement = { name: "ledger_payments", text: `select ${paymentColumns} from payments where id = any($1::uuid[])` };

export type AllocationRow = { payment_id: string; charge_id: string; amount: bigint };

/** Charges that are to be voided and payments that are to be refunded, with all that they settle or are settled by. */
export async function loadTargets(
  tx: Queries,
  chargeIds: string[],
  paymentIds: string[],
): Promise<{ charges: ChargeRow[]; payments: PaymentRow[]; allocations: AllocationRow[] }> {
  const allocations = await tx.query<AllocationRow>(allocationsStatement, [chargeIds, paymentIds]);
  const charges = await tx.query<ChargeRow>(chargesStatement, [[...chargeIds, ...allocations.map((row) => row.charge_id)]]);
  const payments = await tx.query<PaymentRow>(paymentsStatement, [[...paymentIds, ...allocations.map((row) => row.payment_id)]]);
  return { charges, payments, allocations };
}

/** Everything that a batch of postings writes; the keys are columns. */
export type Writes = {
  accounts: {
    id: string;
    receivable: bigint;
    credit: bigint;
    revenue: bigint;
    cash: bigint;
    transaction_count: bigint;
    updated_at: Date;
  }[];
  transactions: {
    id: string;
    account_id: string;
    sequence: bigint;
    type: string;
    amount: bigint;
    balance: bigint;
    charge_id: string | null;
    payment_id: string | null;
    refund_id: string | null;
    description: string;
    request_id: string;
    created_at: Date;
  }[];
  entries: { transaction_id: string; ledger_account: string; currency: string; amount: bigint }[];
  allocations: { transaction_id: string; payment_id: string; charge_id: string; amount: bigint }[];
  newCharges: (Omit<ChargeRow, "invoice_id" | "voided_at"> & { transaction_id: string })[];
  charges: { id: string; settled: bigint; voided_at: Date | null }[];
  newPayments: (PaymentRow & { transaction_id: string })[];
  payments: { id: string; allocated: bigint; refunded: bigint }[];
  refunds: { id: string; payment_id: string; transaction_id: string; amount: bigint; reason: string; created_at: Date }[];
  requests: RequestsTable[];
  events: OutboxEvent[];
  audit: { action: string; subject: string; details: Record<string, unknown>; actor: Actor }[];
};

export function noWrites(): Writes {
  return {
    accounts: [],
    transactions: [],
    entries: [],
    allocations: [],
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

// One array of JSON for each table. The version of an account counts its changes, and each transaction is one.
const writeStatement: Statement = {
  name: "ledger_write",
  text: `
    with wrote_accounts as (
      update accounts set receivable = new.receivable, credit = new.credit, revenue = new.revenue, cash = new.cash, updated_at = new.updated_at,
        version = accounts.version + new.transaction_count - accounts.transaction_count, transaction_count = new.transaction_count
      from json_populate_recordset(null::accounts, $1::json) as new where accounts.id = new.id
    ), wrote_transactions as (
      insert into transactions (id, account_id, sequence, type, amount, balance, charge_id, payment_id, refund_id, description, request_id, created_at)
      select id, account_id, sequence, type, amount, balance, charge_id, payment_id, refund_id, description, request_id, created_at
      from json_populate_recordset(null::transactions, $2::json)
    ), wrote_entries as (
      insert into entries (transaction_id, ledger_account, currency, amount)
      select transaction_id, ledger_account, currency, amount from json_populate_recordset(null::entries, $3::json)
    ), wrote_new_charges as (
      insert into charges (id, account_id, sequence, transaction_id, amount, settled, description, service_date, created_at)
      select id, account_id, sequence, transaction_id, amount, settled, description, service_date, created_at
      from json_populate_recordset(null::charges, $4::json)
    ), wrote_charges as (
      update charges set settled = new.settled, voided_at = new.voided_at
      from json_populate_recordset(null::charges, $5::json) as new where charges.id = new.id
    ), wrote_new_payments as (
      insert into payments (id, account_id, sequence, transaction_id, amount, allocated, refunded, method, reference, created_at)
      select id, account_id, sequence, transaction_id, amount, allocated, refunded, method, reference, created_at
      from json_populate_recordset(null::payments, $6::json)
    ), wrote_payments as (
      update payments set allocated = new.allocated, refunded = new.refunded
      from json_populate_recordset(null::payments, $7::json) as new where payments.id = new.id
    ), wrote_refunds as (
      insert into refunds (id, payment_id, transaction_id, amount, reason, created_at)
      select id, payment_id, transaction_id, amount, reason, created_at from json_populate_recordset(null::refunds, $8::json)
    ), wrote_allocations as (
      insert into allocations (transaction_id, payment_id, charge_id, amount)
      select transaction_id, payment_id, charge_id, amount from json_populate_recordset(null::allocations, $9::json)
    ), wrote_requests as (
      insert into requests (id, method, hash, response, created_at)
      select id, method, hash, response, created_at from json_populate_recordset(null::requests, $10::json)
    ), wrote_audit as (
      insert into audit_entries (actor, action, subject, request_id, details)
      select actor, action, subject, request_id, details from json_populate_recordset(null::audit_entries, $11::json)
    )
    insert into outbox (event_id, topic, key, type, payload, traceparent)
    select event_id, topic, key, type, payload, traceparent from json_populate_recordset(null::outbox, $12::json)`,
};

/** Writes a batch. Accounts, charges and payments that it changes must be under the accounts' locks. */
export async function write(tx: Queries, writes: Writes): Promise<void> {
  const { accounts, transactions, entries, allocations, newCharges, charges, newPayments, payments, refunds, requests } = writes;
  const events = writes.events.map(({ eventId, ...event }) => ({ event_id: eventId, ...event }));
  const audit = writes.audit.map(({ actor, ...entry }) => ({ ...entry, actor: actor.id, request_id: actor.requestId }));
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
  ];
  await tx.query(writeStatement, tables.map(toJson));
}

/** Rows as JSON that Postgres reads: int8 in quotes, bytes as `\\x…`. Not by a replacer, which costs three times as much. */
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

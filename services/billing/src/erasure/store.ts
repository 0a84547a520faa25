/** What of a patient's account must be kept, and its erasure, which the migration defines: only its owner may. */
import { insertIntoAudit } from "@pm/kit/audit/audit";
import type { Statement } from "@pm/kit/postgres/database";
import type { Queries } from "@pm/kit/postgres/transaction";
import type { RequestContext } from "@pm/kit/request-context";
import type { Row } from "../tables.ts";

/** An account with what is open on it, and how many invoices and credit notes are too young to go. */
type HeldAccount = Pick<Row<"accounts">, "id" | "currency" | "receivable" | "credit"> & { documents: number; until: string | null };

const heldStatement: Statement = {
  name: "erasure_held",
  text: `
    select a.id, a.currency, a.receivable, a.credit, d.documents, d.until from accounts a
    cross join lateral (
      select count(*)::int as documents, max(keep_until) as until from (
        select (issue_date + make_interval(years => $2))::date as keep_until from (
          select issue_date from invoices where account_id = a.id and number is not null
          union all select issue_date from credit_notes where account_id = a.id
        ) issued
      ) kept where keep_until > $3::date
    ) d
    where a.patient_id = $1`,
};

export async function findHeld(db: Queries, patientId: string, years: number, today: string): Promise<HeldAccount | undefined> {
  const [row] = await db.query<HeldAccount>(heldStatement, [patientId, years, today]);
  return row;
}

export async function findErasure(db: Queries, patientId: string): Promise<Row<"erasures"> | undefined> {
  const [row] = await db.query<Row<"erasures">>({ name: "erasure_find", text: "select * from erasures where patient_id = $1" }, [
    patientId,
  ]);
  return row;
}

/**
 * Erases the names and free texts of a patient's account, with an audit entry, unless that is done already. Stored
 * answers of the release before are looked through one by one: that may take minutes. Patient-service asks again if it
 * has waited in vain.
 */
export async function eraseParty(tx: Queries, patientId: string, erasureId: string): Promise<void> {
  await tx.query({ name: "erasure_patience", text: "set local statement_timeout = '10min'" }, []);
  await tx.query({ name: "erasure_erase", text: "select erase_party($1, $2)" }, [patientId, erasureId]);
}

const restrictStatement: Statement = {
  name: "erasure_restrict",
  text: `
    with restricted as (
      update accounts set restricted_at = $3, version = version + 1, updated_at = greatest(updated_at, $3)
      where patient_id = $1 and restricted_at is null returning id
    ), audited as (
      ${insertIntoAudit}
      select $4, 'account.restricted', id, $5, jsonb_build_object('erasureId', $2::uuid, 'patientId', $1::uuid) from restricted
    )
    select id from restricted`,
};

/** Restricts the account of a patient. Gives its id if that is new. */
export async function restrictAccount(
  db: Queries,
  { patientId, erasureId }: { patientId: string; erasureId: string },
  { now, context }: { now: Date; context: RequestContext },
): Promise<string | undefined> {
  const [row] = await db.query<{ id: string }>(restrictStatement, [patientId, erasureId, now, context.actorId, context.requestId]);
  return row?.id;
}

// Whoever pays or paid for restricted accounts alone is restricted too: they are erased together (`erase_payers`).
const restrictedStatement: Statement = {
  name: "erasure_restricted",
  text: `
    select id from accounts where id = any($1::uuid[]) and restricted_at is not null
    union all
    select id from payers p where id = any($1::uuid[]) and kind = 'PERSON'
      and exists (select from accounts a where a.restricted_at is not null and a.erased_at is null and (a.payer_id = p.id
        or exists (select from invoices i where i.account_id = a.id and i.addressee->>'payerId' = p.id::text)))
      and not exists (select from accounts a where a.payer_id = p.id and a.restricted_at is null and a.erased_at is null)
      and not exists (select from invoices i join accounts a on a.id = i.account_id
        where i.addressee->>'payerId' = p.id::text and a.restricted_at is null and a.erased_at is null)`,
};

/** Those of these accounts and payers whose names and texts are for administrators only. */
export async function findRestricted(db: Queries, ids: string[]): Promise<string[]> {
  return (await db.query<{ id: string }>(restrictedStatement, [ids])).map(({ id }) => id);
}

/** What of a patient's account must be kept, and its erasure, which the migration defines: only its owner may. */
import type { Statement } from "@pm/kit/postgres/database";
import type { Queries } from "@pm/kit/postgres/transaction";
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
 * Erases the names and free texts of a patient's account, with an audit entry, unless that is done already. Stored answers of the
 * release before are looked through one by one: that may take minutes. Patient-service asks again if it has waited in vain.
 */
export async function eraseParty(tx: Queries, patientId: string, erasureId: string): Promise<void> {
  await tx.query({ name: "erasure_patience", text: "set local statement_timeout = '10min'" }, []);
  await tx.query({ name: "erasure_erase", text: "select erase_party($1, $2)" }, [patientId, erasureId]);
}

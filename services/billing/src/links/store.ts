/** Linked accounts in Postgres. */
import { insertIntoAudit } from "@pm/kit/audit/audit";
import type { Statement } from "@pm/kit/postgres/database";
import type { Queries } from "@pm/kit/postgres/transaction";
import type { RequestContext } from "@pm/kit/request-context";
import { accountColumns } from "../accounts/store.ts";
import type { Row } from "../tables.ts";

const ofPatientsStatement: Statement = {
  name: "links_accounts_of_patients",
  text: "select id, patient_id from accounts where patient_id = any($1::uuid[])",
};

/** The ids of the accounts of patients, by patient. */
export async function accountsOf(tx: Queries, patientIds: string[]): Promise<Map<string, string>> {
  const rows = await tx.query<Pick<Row<"accounts">, "id" | "patient_id">>(ofPatientsStatement, [patientIds]);
  return new Map(rows.map((row) => [row.patient_id, row.id]));
}

const setStatement: Statement = {
  name: "links_set",
  text: `
    with changed as (
      update accounts set merged_into = $2, link_revision = $3, version = version + 1, updated_at = greatest(updated_at, $4)
      where id = $1 returning id
    ), survivors as (
      update accounts set had_links = true where id = $2 and not had_links
    )
    ${insertIntoAudit}
    select $5, case when $2::uuid is null then 'account.unlinked' else 'account.linked' end, id, $6,
      jsonb_build_object('survivorAccountId', $2::uuid, 'revision', $3::bigint) from changed`,
};

/** Sets what a locked account is linked to; null for nothing. */
export async function setLink(
  tx: Queries,
  { accountId, survivorId, revision }: { accountId: string; survivorId: string | null; revision: bigint },
  { now, context }: { now: Date; context: RequestContext },
): Promise<void> {
  await tx.query(setStatement, [accountId, survivorId, revision, now, context.actorId, context.requestId]);
}

const linkedStatement: Statement = {
  name: "links_linked",
  text: `select ${accountColumns} from accounts where merged_into = $1 order by id`,
};

/** The accounts that are linked to one. */
export function linkedAccounts(db: Queries, accountId: string): Promise<Row<"accounts">[]> {
  return db.query(linkedStatement, [accountId]);
}

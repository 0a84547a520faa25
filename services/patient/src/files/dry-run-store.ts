/** E-mails and identifiers of the lines of a dry run, which stores no patients that could have them. */
import type { Queries } from "@pm/kit/postgres/transaction";
import type { Claim } from "../patients/conflicts-store.ts";
import type { Conflict } from "../patients/taken-store.ts";
import type { IdentifierKey } from "../tables.ts";

/** A line that is right. It is of a patient who exists, or who would get the id of the line. */
type Line = { id: string; patientId?: string; claims: Claim[] };

/** Under which a dry run keeps an identifier, or the key of an e-mail, which has no system. */
const hashOfKey = "sha256(convert_to(coalesce('identifier:' || system || '|', '') || value, 'UTF8'))";

/**
 * In a file no two lines may have the same keys, and no line one that a living patient has, unless both are of one
 * patient. Gives the numbers of those that are free. A line that comes first has the key.
 */
const freeStatement = {
  name: "imports_free_keys",
  text: `
    with input as materialized (
      select *, ${hashOfKey} as hash from json_to_recordset($2) as k(n int, system text, value text, patient uuid)
    ), free as materialized (
      select * from input where case when system is null
        then (select id from patients p where p.email_key = value and p.deleted_at is null and p.id <> patient limit 1) is null
          and (select id from patients p where lower(p.email) = value and p.deleted_at is null and p.id <> patient limit 1) is null
        else (select patient_id from patient_identifiers i where i.system = input.system and i.value = input.value
          and i.patient_id <> patient) is null end
    ), noted as (
      insert into import_emails (import_id, email_hash, patient_id) select $1, hash, patient from free order by n
      on conflict do nothing returning email_hash, patient_id
    )
    select n from free where patient = coalesce((select patient_id from noted where email_hash = hash),
      (select patient_id from import_emails where import_id = $1 and email_hash = hash))`,
};

/** The lines whose e-mail or identifier is taken: by another patient, or by a line of another one that came before. */
export async function takenKeys(tx: Queries, importId: string, lines: Line[]): Promise<Map<string, Conflict>> {
  const keys = lines.flatMap(({ id, patientId, claims }) =>
    claims.map((claim) => ({ id, patient: patientId ?? id, ...(claim.kind === "email" ? { system: null, value: claim.key } : claim) })),
  );
  const rows = await tx.query<{ n: number }>(freeStatement, [importId, JSON.stringify(keys.map((key, n) => ({ ...key, n })))]);
  const free = new Set(rows.map(({ n }) => n));
  const taken = keys.filter((_, n) => !free.has(n)).reverse();
  return new Map(taken.map(({ id, system }) => [id, system === null ? "email" : { system }]));
}

const namedStatement = {
  name: "imports_named_before",
  text: `select patient_id as id from import_emails where import_id = $1 and patient_id is not null
    and email_hash in (select ${hashOfKey} from json_to_recordset($2) as k(system text, value text)) limit 1`,
};

/** The patient whom a line before gave one of these identifiers, in a dry run. Perhaps that line would create them. */
export async function findNamedBefore(db: Queries, importId: string, identifiers: IdentifierKey[]): Promise<string | undefined> {
  const [row] = await db.query<{ id: string }>(namedStatement, [importId, JSON.stringify(identifiers)]);
  return row?.id;
}

/** Rows whose words and keys are to be rewritten: those of the version before, which have no `keys_version`. */
import { defineBulkInput } from "@pm/kit/postgres/bulk";
import type { Queries } from "@pm/kit/postgres/transaction";
import { type PatientRecord, recordNumberSystem, type SearchWords } from "../tables.ts";
import { type PatientRow, patientColumns, toPatient } from "./store.ts";

/** Whether there are such rows. */
export async function hasOldWords(db: Queries): Promise<boolean> {
  const text = "select exists (select from patients where keys_version is null) as has_old";
  const [row] = await db.query<{ has_old: boolean }>({ name: "patients_has_old_words", text }, []);
  return row?.has_old ?? true;
}

export async function countOldWords(db: Queries): Promise<number> {
  const text = "select count(*)::int as count from patients where keys_version is null";
  const [row] = await db.query<{ count: number }>({ name: "patients_count_old_words", text }, []);
  return row?.count ?? 0;
}

/** A patient whose words are old. */
type OldWords = { id: string; version: number; record: PatientRecord };

/**
 * The next ones after an id. Ids before it have left dead entries in the index, which are slow to pass until a vacuum.
 */
export async function readOldWords(db: Queries, after: string, limit: number): Promise<OldWords[]> {
  const text = `select ${patientColumns}, null as account_id from patients p where keys_version is null and id > $1 order by id limit $2`;
  return (await db.query<PatientRow>({ name: "patients_old_words", text }, [after, limit])).map(toPatient);
}

type NewWords = OldWords & { words: SearchWords };

const rewritten = defineBulkInput<NewWords>({
  id: ["uuid", ({ id }) => id],
  version: ["bigint", ({ version }) => BigInt(version)],
  has_number: ["boolean", ({ record }) => record.identifiers?.some(({ system }) => system === recordNumberSystem) === true],
  words: ["text", ({ words }) => words.all.join("\n")],
  sort_name: ["text", ({ words }) => words.sortName],
  city_key: ["text", ({ words }) => words.cityKey],
  match_keys: ["text", ({ words }) => `{${words.keys.join()}}`],
});

/**
 * Leaves out who was changed in the meantime, or got a record number: that change wrote their words, or they are still
 * among the old ones.
 */
const rewriteStatement = {
  name: "patients_rewrite",
  text: `
    with search_words as (
      insert into patient_words select distinct word from unnest($${rewritten.count + 1}::text[]) as word order by word
      on conflict do nothing
    )
    update patients p set words = array_to_tsvector(string_to_array(input.words, E'\\n')), sort_name = input.sort_name,
      city_key = input.city_key, words_version = p.version,
      match_keys = input.match_keys::int[], keys_version = p.version
    from ${rewritten.source("input")} where p.id = input.id and p.version = input.version and p.keys_version is null
    and input.has_number = (coalesce(p.details->'identifiers', '[]') @> '[{"system": "${recordNumberSystem}"}]')`,
};

export async function rewriteWords(db: Queries, patients: NewWords[]): Promise<void> {
  const names = patients.flatMap(({ words }) => words.names);
  await db.query(rewriteStatement, [...rewritten.collect(patients).values(), names]);
}

/** The sequence of record numbers, and patients who have none yet. */
import type { PatientDatabase } from "../database.ts";
import { recordNumberSystem } from "../tables.ts";

/** The pool, or the connection of the leader. */
type Client = Pick<PatientDatabase["pool"], "query">;

/** The next values of the sequence. Replicas share it, so no two get the same. */
export async function nextOfSequence(client: Client, count: number): Promise<bigint[]> {
  const text = "select nextval('record_numbers') as position from generate_series(1, $1)";
  const { rows } = await client.query<{ position: bigint }>({ name: "record_numbers_next", text, values: [count] });
  return rows.map(({ position }) => position);
}

/** Those of the numbers that no patient has, in order. Usually nobody has one between the first and the last. */
export async function freeNumbers(client: Client, numbers: string[]): Promise<string[]> {
  const text = `select value from patient_identifiers where system = '${recordNumberSystem}' and value = any($1::text[])
    and exists (select 1 from patient_identifiers where system = '${recordNumberSystem}' and value between $2 and $3)`;
  const values = [numbers, numbers[0], numbers.at(-1)];
  const { rows } = await client.query<{ value: string }>({ name: "record_numbers_taken", text, values });
  const taken = new Set(rows.map(({ value }) => value));
  return numbers.filter((number) => !taken.has(number));
}

const isNumbered = `coalesce(details->'identifiers', '[]') @> '[{"system": "${recordNumberSystem}"}]'`;
/** How many patients are looked at for a batch. Most of them may have a number. */
const lookedAt = 2_000;

/** The next patients without a number, at most `count`, and the last one looked at. Undefined if there are no more. */
export async function findUnnumbered(client: Client, after: string, count: number): Promise<{ ids: string[]; last: string | undefined }> {
  const text = `
    with seen as materialized (
      select id, details from patients where id > $1 order by id limit ${lookedAt}
    ), missing as materialized (
      select id from seen where not ${isNumbered} order by id limit $2
    )
    select array(select id from missing) as ids,
      case when (select count(*) from missing) = $2 then (select id from missing order by id desc limit 1)
        else (select id from seen order by id desc limit 1) end as last`;
  const { rows } = await client.query<{ ids: string[]; last: string | null }>({
    name: "patients_unnumbered",
    text,
    values: [after, count],
  });
  return { ids: rows[0]?.ids ?? [], last: rows[0]?.last ?? undefined };
}

/**
 * Gives each patient a number, unless they got one meanwhile. The version of the record stays: nobody has changed it.
 */
export async function giveNumbers(client: Client, ids: string[], numbers: string[]): Promise<void> {
  const text = `
    update patients set
        details = coalesce(details, '{}') || jsonb_build_object('identifiers',
          jsonb_build_array(jsonb_build_object('id', 'record-number', 'system', '${recordNumberSystem}', 'value', number))
          || coalesce(details->'identifiers', '[]')),
        words = words || array_to_tsvector(array[lower(number)])
    from unnest($1::uuid[], $2::text[]) as given(patient_id, number) where id = patient_id and not ${isNumbered}`;
  await client.query({ name: "record_numbers_give", text, values: [ids, numbers] });
}

/**
 * `npm run seed -- --patients 1000000`: writes synthetic patients straight into the database, as an import would: with
 * their first versions, audit entries and events. The service opens their billing accounts in the background.
 *
 *   --patients N     how many to add (1,000)
 *   --records-only   no events and no billing accounts, for measuring lists and search alone
 *
 * The target is `MIGRATION_DATABASE_URL`, or the Postgres of the `npm start` that runs in this folder.
 */
import { hash } from "node:crypto";
import { Readable } from "node:stream";
import { pipeline } from "node:stream/promises";
import { parseArgs } from "node:util";
import { emailKey } from "@pm/kit/email";
import { Client } from "pg";
import { from as copyFrom } from "pg-copy-streams";
import { registeredEvent } from "../../services/patient/src/patients/events.ts";
import { withRecordNumber } from "../../services/patient/src/patients/identifiers.ts";
import { searchWords } from "../../services/patient/src/patients/search.ts";
import type { SearchWords } from "../../services/patient/src/tables.ts";
import { localDatabaseUrl } from "../local.ts";
import { type Person, personAt } from "./people.ts";

const actor = "seed";
const rowsPerText = 500;
/** So many people are kept in memory, because several tables need each of them. */
const peopleAtOnce = 20_000;

/** A value in COPY's text format: `\N` is null, tabs and line ends are escaped. */
const cell = (value: unknown) =>
  value === undefined || value === null
    ? "\\N"
    : String(value).replace(/[\\\t\n\r]/g, (char) => ({ "\\": "\\\\", "\t": "\\t", "\n": "\\n", "\r": "\\r" })[char] ?? "");
const sha256 = (text: string) => hash("sha256", text);

/** A person, with derived values that several tables need. */
type Seeded = Person & { words: SearchWords; json: string };
type Target = { table: string; columns: string; row: (person: Seeded) => unknown[] };

const patients: Target = {
  table: "patients",
  columns:
    "id, version, name, first_name, last_name, email, email_key, phone_number, date_of_birth, address_text, street, city, state, zip_code, sex, registered_date, registered_by, created_at, updated_at, sort_name, city_key, words_version, match_keys, keys_version, words, details",
  row: ({ id, at, record: r, words }) => [
    ...[id, 1, r.name, r.firstName, r.lastName, r.email, emailKey(r.email), r.phoneNumber, r.dateOfBirth],
    ...[r.address.text, r.address.street, r.address.city, r.address.state, r.address.zipCode, r.sex, r.registeredDate],
    ...[actor, at.toISOString(), at.toISOString(), words.sortName, words.cityKey, 1, `{${words.keys.join()}}`, 1],
    words.all.map((word) => `'${word.replace(/['\\]/g, "$&$&")}'`).join(" "),
    JSON.stringify({ identifiers: r.identifiers }),
  ],
};
const identifiers: Target = {
  table: "patient_identifiers",
  columns: "system, value, patient_id",
  row: ({ id, record }) => [record.identifiers?.[0]?.system, record.identifiers?.[0]?.value, id],
};
const versions: Target = {
  table: "patient_versions",
  columns: "patient_id, version, action, changed_at, changed_by, record",
  row: ({ id, at, json }) => [id, 1, "imported", at.toISOString(), actor, json],
};
const audit: Target = {
  table: "audit_entries",
  columns: "actor, action, subject, request_id, details",
  row: ({ id, json }) => [actor, "patient.imported", id, "seed", JSON.stringify({ version: 1, sha256: sha256(json) })],
};
const billing = (nextAttemptAt: string | null): Target => ({
  table: "patient_billing",
  columns: "patient_id, next_attempt_at",
  row: ({ id }) => [id, nextAttemptAt],
});
const outbox: Target = {
  table: "outbox",
  columns: "event_id, topic, key, type, payload, traceparent",
  row: ({ id, at, record }) => {
    const { eventId, type, payload, traceparent } = registeredEvent(
      id,
      at,
      `00-${sha256(id).slice(0, 32)}-${id.slice(-12).padStart(16, "0")}-00`,
      record,
    );
    return [eventId, "patient.v1", id, type, `\\x${Buffer.from(payload).toString("hex")}`, traceparent];
  },
};

/** Yields people by number and puts each into `kept`. */
function* makePeople(first: number, end: number, count: number, kept: Seeded[]): Generator<Seeded> {
  for (let index = first; index < end; index++) {
    const { record: unnumbered, ...person } = personAt(index, count);
    // Apart from those that the service gives.
    const record = withRecordNumber(unnumbered, `SEED${index}`);
    const seeded = { ...person, record, words: searchWords(record), json: JSON.stringify(record) };
    kept.push(seeded);
    yield seeded;
  }
}

/** Shows progress: on a terminal as one changing line, elsewhere as a line for each tenth. */
function createProgress(total: number) {
  const started = performance.now();
  let shown = -1;
  return (done: number, what: string) => {
    const percent = Math.floor((100 * done) / total);
    const { isTTY } = process.stderr;
    if (percent === shown || (!isTTY && percent % 10 !== 0)) return;
    shown = percent;
    const bar = "#".repeat(Math.floor(percent / 4)).padEnd(25, ".");
    const seconds = Math.round((performance.now() - started) / 1_000);
    process.stderr.write(
      `${isTTY ? "\r" : ""}[${bar}] ${String(percent).padStart(3)} % ${String(seconds).padStart(4)} s  ${what.padEnd(20)}${isTTY ? "" : "\n"}`,
    );
  };
}

async function copy(
  client: Client,
  { table, columns, row }: Target,
  people: Iterable<Seeded>,
  onRows: (count: number) => void,
): Promise<void> {
  function* text() {
    let chunk = "";
    let rows = 0;
    for (const person of people) {
      chunk += `${row(person).map(cell).join("\t")}\n`;
      if (++rows < rowsPerText) continue;
      yield chunk;
      onRows(rows);
      chunk = "";
      rows = 0;
    }
    yield chunk;
    onRows(rows);
  }
  await pipeline(Readable.from(text()), client.query(copyFrom(`copy ${table} (${columns}) from stdin`)));
}

/** Drops the indexes that no constraint needs, and gives their definitions: creating is quicker than updating. */
async function takeIndexes(client: Client): Promise<string[]> {
  const { rows } = await client.query<{ name: string; definition: string }>(
    `select i.indexrelid::regclass::text as name, pg_get_indexdef(i.indexrelid) as definition from pg_index i
     where i.indrelid = any(array['patients', 'patient_versions', 'patient_billing', 'audit_entries']::regclass[])
     and not exists (select 1 from pg_constraint c where c.conindid = i.indexrelid)`,
  );
  for (const { name } of rows) await client.query(`drop index ${name}`);
  return rows.map((row) => row.definition);
}

async function main(): Promise<void> {
  const options = { patients: { type: "string", default: "1000" }, "records-only": { type: "boolean", default: false } } as const;
  const { values } = parseArgs({ options });
  const count = Number(values.patients);
  if (!Number.isInteger(count) || count < 1) throw new Error("--patients: must be a whole number above 0");
  const recordsOnly = values["records-only"];
  const client = new Client({
    connectionString: process.env.MIGRATION_DATABASE_URL || localDatabaseUrl("patient"),
    application_name: actor,
  });
  await client.connect();
  const started = performance.now();
  // One transaction: either all patients with everything that belongs to them, or none.
  await client.query("begin");
  await client.query("set local maintenance_work_mem = '512MB'");
  const { rows } = await client.query<{ all: number; seeded: number }>(
    `select (select count(*)::int from (select 1 from patients limit 100000) sample) as all, count(*)::int as seeded from patients where registered_by = $1`,
    [actor],
  );
  const { all = 0, seeded = 0 } = rows[0] ?? {};
  const due = recordsOnly ? null : new Date().toISOString();
  const targets = [patients, identifiers, versions, audit, billing(due), ...(recordsOnly ? [] : [outbox])];
  // Creating the indexes again only pays if most rows are new. It locks others out meanwhile.
  const indexes = count > 50_000 && count > all ? await takeIndexes(client) : [];
  const weight = count / 10;
  const total = targets.length * count + indexes.length * weight;
  const progress = createProgress(total);
  let done = 0;
  const names = new Set<string>();
  for (let first = seeded; first < seeded + count; first += peopleAtOnce) {
    const people: Seeded[] = [];
    // Made while Postgres stores the first ones, and kept for the other tables.
    const made = makePeople(first, Math.min(first + peopleAtOnce, seeded + count), seeded + count, people);
    for (const target of targets)
      await copy(client, target, target === patients ? made : people, (copied) => {
        done += copied;
        progress(done, target.table);
      });
    for (const { words } of people) for (const word of words.names) names.add(word);
  }
  for (const definition of indexes) {
    await client.query(definition);
    done += weight;
    progress(done, "indexes");
  }
  await client.query("insert into patient_words select unnest($1::text[]) on conflict do nothing", [[...names]]);
  await client.query("commit");
  // Otherwise autovacuum does it in the next minutes and disturbs what is measured then.
  await client.query(`vacuum (analyze) patient_words, ${targets.map((target) => target.table).join(", ")}`);
  await client.end();
  const seconds = (performance.now() - started) / 1_000;
  process.stderr.write(
    `\n${count.toLocaleString("en")} patients in ${seconds.toFixed(1)} s (${Math.round(count / seconds).toLocaleString("en")}/s)\n`,
  );
}

main().catch((error: unknown) => {
  process.stderr.write(`\nseed: ${error instanceof Error ? error.message : String(error)}\n`);
  process.exitCode = 1;
});

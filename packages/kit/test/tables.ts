/**
 * Compares the table types of a service with a migrated database. Types do not exist at run time, so a test describes
 * each column in words. The compiler checks the description against the types, the test checks it against Postgres:
 *
 *     const tables = { ...auditTables, teams: { id: "uuid default", name: "text", ended_at: "timestamptz null" } };
 *     expect(await readTables("auth")).toEqual(tables satisfies TableDescriptions<Tables>);
 */
import { query } from "@pm/stack/native/postgres";
import { testDatabase } from "@pm/stack/testing";
import type { InsertType, SelectType } from "kysely";
import pg from "pg";
import type { AuditTables } from "../src/audit/audit.ts";
import type { CheckTables } from "../src/checks.ts";
import type { DeadLetterTables } from "../src/kafka/dead-letter-store.ts";
import type { OutboxTables } from "../src/kafka/outbox.ts";

/** The types of Postgres that arrive as a type of TypeScript. A type that is never read may be any. */
type PostgresType<Value> = [Value] extends [never]
  ? string
  : unknown extends Value
    ? "json" | "jsonb"
    : [Value] extends [string]
      ? "text" | "citext" | "uuid" | "date" | "inet" | "numeric" | "pg_snapshot"
      : [Value] extends [bigint]
        ? "bigint"
        : [Value] extends [number]
          ? "smallint" | "integer" | "real" | "double precision"
          : [Value] extends [boolean]
            ? "boolean"
            : [Value] extends [Date]
              ? "timestamptz"
              : [Value] extends [Uint8Array]
                ? "bytea"
                : [Value] extends [readonly (infer Element)[]]
                  ? "json" | "jsonb" | `${PostgresType<Element>}[]`
                  : "json" | "jsonb";

/** `generated`: Postgres always assigns it. `default`: Postgres assigns it unless an insert does. */
type Origin<Column> = [InsertType<Column>] extends [never] ? " generated" : undefined extends InsertType<Column> ? " default" : "";

/** A column of any JSON may be null or not: `unknown` includes null. */
type Nullability<Value> = unknown extends Value ? "" | " null" : null extends Value ? " null" : "";

type ColumnDescription<Column> = [SelectType<Column>] extends [never]
  ? string
  : `${PostgresType<Exclude<SelectType<Column>, null>>}${Nullability<SelectType<Column>>}${Origin<Column>}`;

/** What a test says of the tables of a service: every table and every column of its types, and no other. */
export type TableDescriptions<Tables> = {
  [Table in keyof Tables]: { [Column in keyof Tables[Table]]: ColumnDescription<Tables[Table][Column]> };
};

/** Kit's own tables, for the services that have them. */
export const auditTables = {
  audit_entries: {
    id: "bigint generated",
    occurred_at: "timestamptz default",
    actor: "text",
    action: "text",
    subject: "text",
    request_id: "text",
    details: "jsonb default",
  },
  audit_blocks: {
    number: "bigint",
    entry_ids: "bigint[]",
    entry_hashes: "bytea[]",
    previous_hash: "bytea",
    hash: "bytea",
    sealed_at: "timestamptz default",
    month: "timestamptz default",
  },
  audit_months: { month: "timestamptz", until: "timestamptz" },
  audit_unsealed: { entry_id: "bigint" },
  audit_patients: { entry_id: "bigint", occurred_at: "timestamptz", patient_id: "uuid" },
} as const satisfies TableDescriptions<AuditTables>;

export const outboxTables = {
  outbox: {
    id: "bigint generated",
    event_id: "uuid",
    topic: "text",
    key: "text",
    type: "text",
    payload: "bytea",
    traceparent: "text",
    created_at: "timestamptz default",
  },
} as const satisfies TableDescriptions<OutboxTables>;

export const checkTables = {
  check_results: { name: "text", passed: "boolean", finished_at: "timestamptz default" },
} as const satisfies TableDescriptions<CheckTables>;

export const deadLetterTables = {
  dead_letters: {
    id: "bigint generated",
    consumer_group: "text",
    event_id: "uuid",
    topic: "text",
    partition: "integer",
    offset: "bigint",
    key: "text",
    type: "text",
    source: "text",
    event_time: "timestamptz",
    traceparent: "text",
    payload: "bytea",
    reason: "text",
    tries: "integer",
    state: "text default",
    failed_at: "timestamptz default",
    settled_at: "timestamptz null",
  },
} as const satisfies TableDescriptions<DeadLetterTables>;

/** What a migrated database of a service has, in the same words. Kysely's own tables are left out. */
export async function readTables(service: string): Promise<Record<string, Record<string, string>>> {
  const { migrationDatabaseUrl, drop } = await testDatabase(service);
  const client = new pg.Client(migrationDatabaseUrl);
  await client.connect();
  try {
    const { rows } = await client.query<{ table: string; columns: Record<string, string> }>(`
      select c.relname as table, json_object_agg(a.attname,
        replace(format_type(a.atttypid, a.atttypmod), 'timestamp with time zone', 'timestamptz')
          || case when a.attnotnull then '' else ' null' end
          || case when a.attidentity = 'a' or a.attgenerated <> '' then ' generated' when a.atthasdef or a.attidentity = 'd' then ' default' else '' end
      ) as columns
      from pg_class c join pg_attribute a on a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped
      where c.relnamespace = 'public'::regnamespace and c.relkind in ('r', 'p') and not c.relispartition and c.relname not like 'kysely_migration%'
      group by c.relname`);
    return Object.fromEntries(rows.map(({ table, columns }) => [table, columns]));
  } finally {
    await client.end();
    await drop();
  }
}

/** The tables of a database in which a word stands, as text in any case or in bytes: what a dump would show. */
export async function tablesWith(migrationDatabaseUrl: string, word: string): Promise<string[]> {
  return query(migrationDatabaseUrl, async (client) => {
    const names = "select table_name as name from information_schema.tables where table_schema = 'public' and table_type = 'BASE TABLE'";
    const found: string[] = [];
    for (const { name } of (await client.query<{ name: string }>(names)).rows) {
      const text = `select exists (select from "${name}" t where position(lower($1) in lower(t::text)) > 0
        or position(encode(convert_to($1, 'UTF8'), 'hex') in t::text) > 0) as found`;
      if ((await client.query(text, [word])).rows[0].found) found.push(name);
    }
    return found;
  });
}

import { testDatabase } from "@pm/stack/testing";
import { sql } from "kysely";
import { afterAll, expect, test } from "vitest";
import { createLogger } from "../src/log.ts";
import { openDatabase } from "../src/postgres/database.ts";
import { createIndexesConcurrently } from "../src/postgres/indexes.ts";

const database = await testDatabase("kit");
const log = createLogger("kit", "silent");
const settings = { url: database.migrationDatabaseUrl };
const { kysely, pool } = openDatabase({ settings, poolSize: 4, applicationName: "kit", log });
afterAll(async () => {
  await kysely.destroy();
  await database.drop();
});

const isValid = async (name: string) =>
  (await pool.query("select indisvalid from pg_index where indexrelid = to_regclass($1)", [name])).rows[0]?.indisvalid;

test("an index is created once, and again if an attempt before was interrupted", async () => {
  await sql`create table things (id int, name text)`.execute(kysely);
  await sql`insert into things values (1, 'one'), (1, 'one')`.execute(kysely);
  await expect(pool.query("create unique index concurrently things_id on things (id)")).rejects.toThrow("could not create unique index");
  expect(await isValid("things_id")).toBe(false);
  const indexes = { things_id: "on things (id)", things_name: "on things (lower(name)) where id > 0" };
  for (let round = 0; round < 2; round++) await createIndexesConcurrently(kysely, indexes, log);
  expect([await isValid("things_id"), await isValid("things_name")]).toEqual([true, true]);
});

test("while an index is created, rows are written", async () => {
  const writer = await pool.connect();
  await writer.query("begin");
  await writer.query("insert into things values (2, 'two')");
  const created = createIndexesConcurrently(kysely, { things_both: "on things (id, name)" }, log);
  // It waits for the writer, and the next writer does not wait for it.
  await pool.query("set lock_timeout = '1s'; insert into things values (3, 'three')");
  await writer.query("commit");
  writer.release();
  await created;
  expect(await isValid("things_both")).toBe(true);
});

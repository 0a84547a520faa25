import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { testDatabase } from "@pm/stack/testing";
import { Pool } from "pg";
import { afterAll, expect, test, vi } from "vitest";
import { runMigrations } from "../src/postgres/migrate.ts";

const database = await testDatabase("kit");
const pool = new Pool({ connectionString: database.migrationDatabaseUrl });
const folder = mkdtempSync(join(tmpdir(), "pm-migrations-"));
afterAll(async () => {
  await pool.end();
  await database.drop();
  rmSync(folder, { recursive: true });
});

/** Writes a migration into the folder, by its statement. */
function add(name: string, statement: string): void {
  const kysely = import.meta.resolve("kysely");
  const text = `import { sql } from "${kysely}";\nexport const up = (db) => sql\`${statement}\`.execute(db);\n`;
  writeFileSync(join(folder, `${name}.ts`), text);
}

async function migrated(): Promise<void> {
  vi.stubEnv("MIGRATION_DATABASE_URL", database.migrationDatabaseUrl);
  vi.stubEnv("LOG_LEVEL", "silent");
  await runMigrations("kit", folder);
}

test("a migration that waits for a long reader lets others pass, and is applied when the reader is done", async () => {
  add("2026-01-01-things", "create table things (id int)");
  await migrated();
  add("2026-01-02-name", "alter table things add column name text");
  const reader = await pool.connect();
  await reader.query("begin; select * from things");
  const migration = migrated();
  const slowest = { ms: 0 };
  const until = Date.now() + 4_000;
  while (Date.now() < until) {
    const begin = performance.now();
    await pool.query("insert into things values (1)");
    slowest.ms = Math.max(slowest.ms, performance.now() - begin);
  }
  await reader.query("commit");
  reader.release();
  await migration;
  expect(slowest.ms).toBeLessThan(2_000);
  const { rows } = await pool.query("select distinct name from things");
  expect(rows).toEqual([{ name: null }]);
}, 30_000);

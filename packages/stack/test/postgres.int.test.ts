import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, rmSync } from "node:fs";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { chooseRuntime } from "../src/docker/docker.ts";
import { type Postgres, query, startPostgres } from "../src/native/postgres.ts";
import { freePort } from "../src/programs/ports.ts";
import { isAlive } from "../src/programs/processes.ts";
import { until } from "../src/programs/server.ts";

const rows = (url: string, sql: string) => query(url, async (client) => (await client.query(sql)).rows);
const native = (await chooseRuntime()) === "native";

describe("a Postgres server", { timeout: 120_000 }, () => {
  let postgres: Postgres;
  beforeAll(async () => {
    postgres = await startPostgres({ durable: false });
  }, 300_000);
  afterAll(() => postgres.stop());

  test("is the pinned version, with Unicode rules for upper case", async () => {
    expect(await rows(postgres.url, "SELECT current_setting('server_version_num')::int / 10000 AS major, upper('é') AS upper")).toEqual([
      { major: 18, upper: "É" },
    ]);
  });

  test("makes a database twice without complaint, and its roles can log in", async () => {
    const first = await postgres.createDatabase("patient");
    const second = await postgres.createDatabase("patient");
    expect(second).toEqual(first);
    expect(await rows(first.databaseUrl, "SELECT current_user AS who, current_database() AS db")).toEqual([
      { who: "patient", db: "patient" },
    ]);
    expect(await rows(first.migrationDatabaseUrl, "SELECT current_user AS who")).toEqual([{ who: "patient_owner" }]);
    expect(
      await rows(first.databaseUrl, "SELECT extname FROM pg_extension WHERE extname IN ('pg_trgm', 'citext') ORDER BY 1"),
    ).toHaveLength(2);
  });

  test("makes databases for one service at the same time", async () => {
    const made = await Promise.all(["a", "b", "c"].map((suffix) => postgres.createDatabase("billing", `billing_${suffix}`)));
    expect(new Set(made.map(({ databaseUrl }) => databaseUrl)).size).toBe(3);
  });

  test("lets the owner make tables and the runtime role only what it is granted", async () => {
    const { databaseUrl, migrationDatabaseUrl } = await postgres.createDatabase("analytics");
    await rows(migrationDatabaseUrl, "CREATE TABLE thing (id int); GRANT SELECT ON thing TO analytics");
    expect(await rows(databaseUrl, "SELECT * FROM thing")).toEqual([]);
    await expect(rows(databaseUrl, "INSERT INTO thing VALUES (1)")).rejects.toThrow("permission denied for table thing");
    await expect(rows(databaseUrl, "CREATE TABLE other (id int)")).rejects.toThrow("permission denied for schema public");
  });

  test("keeps one service out of another one's database", async () => {
    const { databaseUrl } = await postgres.createDatabase("auth");
    await postgres.createDatabase("billing");
    const elsewhere = new URL(databaseUrl);
    elsewhere.pathname = "/billing";
    await expect(rows(elsewhere.href, "SELECT 1")).rejects.toThrow("permission denied for database");
  });

  test.skipIf(process.env.POSTGRES_URL)("lets a service's roles connect to its own database only", async () => {
    const { databaseUrl, migrationDatabaseUrl } = await postgres.createDatabase("patient");
    for (const url of [databaseUrl, migrationDatabaseUrl])
      for (const name of ["postgres", "template1"]) {
        const elsewhere = new URL(url);
        elsewhere.pathname = `/${name}`;
        await expect(rows(elsewhere.href, "SELECT 1")).rejects.toThrow(`permission denied for database "${name}"`);
      }
    const open = "SELECT datname FROM pg_database WHERE datallowconn AND has_database_privilege($1, datname, 'CONNECT') ORDER BY 1";
    for (const role of ["patient", "patient_owner"]) {
      const found = await query(postgres.url, async (client) => (await client.query(open, [role])).rows);
      expect(found.map(({ datname }) => datname).filter((name) => !name.startsWith("patient"))).toEqual([]);
    }
  });

  test("copies a database from a template", async () => {
    const template = await postgres.createDatabase("patient", "patient_template");
    await rows(template.migrationDatabaseUrl, "CREATE TABLE migrated (id int); GRANT SELECT ON migrated TO patient");
    const copy = await postgres.createDatabase("patient", "patient_copy", "patient_template");
    expect(await rows(copy.databaseUrl, "SELECT * FROM migrated")).toEqual([]);
  });

  test("has its data after a kill and a start on the same port", async () => {
    const { migrationDatabaseUrl } = await postgres.createDatabase("billing", "survivor");
    await rows(migrationDatabaseUrl, "CREATE TABLE kept (id int); INSERT INTO kept VALUES (42)");
    const before = postgres.pids();
    await postgres.kill();
    expect(postgres.pids()).toEqual([]);
    await expect(rows(migrationDatabaseUrl, "SELECT 1")).rejects.toThrow();
    await postgres.start();
    expect(await rows(migrationDatabaseUrl, "SELECT id FROM kept")).toEqual([{ id: 42 }]);
    expect(postgres.pids()).not.toEqual(before);
  });

  test("answers nothing while it is paused, and then all of it", async () => {
    await postgres.pause();
    let answered = false;
    const answer = rows(postgres.url, "SELECT 7 AS seven").then((result) => {
      answered = true;
      return result;
    });
    const settled = await Promise.race([answer, new Promise((resolve) => setTimeout(resolve, 300, "nothing"))]);
    expect([settled, answered]).toEqual(["nothing", false]);
    await postgres.resume();
    expect(await answer).toEqual([{ seven: 7 }]);
  });
});

test("Postgres logs statements and errors without parameters and without rows", async () => {
  const lines: string[] = [];
  const logging = await startPostgres({ durable: false, onLog: (line) => void lines.push(line) });
  const secret = "ada.lovelace@example.com";
  await query(logging.url, async (client) => {
    await client.query("SET log_min_duration_statement = 0");
    await client.query("CREATE TABLE people (email text PRIMARY KEY, age int CHECK (age < 200))");
    const insert = (...values: unknown[]) => client.query("INSERT INTO people VALUES ($1, $2)", values);
    await insert(secret, 36);
    await expect(insert(secret, 36)).rejects.toThrow("duplicate key");
    await expect(insert(`${secret}.uk`, 236)).rejects.toThrow("violates check constraint");
  });
  await logging.stop();
  const log = lines.join("\n");
  for (const logged of ["INSERT INTO people", "duplicate key", "violates check constraint"]) expect(log).toContain(logged);
  expect(lines.filter((line) => line.includes(secret))).toEqual([]);
});

describe("Postgres with a data folder", { timeout: 120_000 }, () => {
  const dataDir = mkdtempSync(join(tmpdir(), "pm-test-"));
  afterAll(() => rmSync(dataDir, { recursive: true, force: true }));

  test.runIf(native)("says which port is taken", async () => {
    const other = createServer();
    const port = await freePort();
    await once(other.listen(port, "127.0.0.1"), "listening");
    await expect(startPostgres({ port })).rejects.toThrow(/could not bind IPv4 address "127.0.0.1": Address already in use/);
    other.close();
  });

  test.runIf(native)("is stopped by its guard where its parent is killed, and what is left is taken over", async () => {
    // Another process starts the server and is killed with SIGKILL.
    const program = `
      import { startPostgres } from ${JSON.stringify(new URL("../src/native/postgres.ts", import.meta.url).href)};
      const postgres = await startPostgres({ dataDir: ${JSON.stringify(dataDir)}, password: "secret", durable: false });
      const { migrationDatabaseUrl } = await postgres.createDatabase("patient");
      console.log(JSON.stringify({ pid: postgres.pids()[0], migrationDatabaseUrl }));
    `;
    const parent = spawn(process.execPath, ["--input-type=module-typescript", "-e", program], { stdio: ["ignore", "pipe", "inherit"] });
    const [line] = (await once(createInterface({ input: parent.stdout }), "line")) as [string];
    const { pid, migrationDatabaseUrl } = JSON.parse(line) as { pid: number; migrationDatabaseUrl: string };
    await rows(migrationDatabaseUrl, "CREATE TABLE kept AS SELECT 1 AS one");
    expect(isAlive(pid)).toBe(true);
    parent.kill("SIGKILL");
    // Do not wait for the guard: the next start has to cope with a server that still runs.
    const next = await startPostgres({ dataDir, password: "secret", durable: false });
    await until(
      () => !isAlive(pid),
      10_000,
      () => "the server that was left behind is still there",
    );
    const { databaseUrl } = await next.createDatabase("patient");
    expect(await rows(databaseUrl, "SELECT to_regclass('kept')::text AS kept")).toEqual([{ kept: "kept" }]);
    await next.stop();
  });
});

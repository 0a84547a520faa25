import { type TestDatabase, testDatabase } from "@pm/stack/testing";
import { Pool } from "pg";
import { afterAll, beforeAll, expect, test } from "vitest";
import { noted, showChecks } from "../src/checks.ts";
import { createLogger } from "../src/log.ts";
import { metrics } from "../src/metrics.ts";
import { openDatabase } from "../src/postgres/database.ts";
import { showStatistics } from "../src/postgres/statistics.ts";

const log = createLogger("billing", "silent");
const noteCheck = (into: Pool, check: "audit_chain" | "ledger", passed: boolean) =>
  noted(
    { pool: into, check, log },
    async () => passed,
    (result) => result,
  );
let database: TestDatabase;
let pool: Pool;
function poolOf(options?: string): Pool {
  const opened = new Pool({ connectionString: database.databaseUrl, ...(options !== undefined && { options }) });
  // The server may close a connection while the pool closes it.
  opened.on("error", () => undefined);
  return opened;
}

beforeAll(async () => {
  database = await testDatabase("billing");
  pool = poolOf();
  showChecks(pool);
  showStatistics(pool);
});
afterAll(async () => {
  await pool.end();
  await database.drop();
});

/** The values of a metric by their labels. */
async function valuesOf(name: string): Promise<Record<string, number>> {
  const lines = (await metrics.metrics()).split("\n").filter((line) => line.startsWith(`${name}{`) || line.startsWith(`${name} `));
  return Object.fromEntries(lines.map((line) => [/\{(.*)\}/.exec(line)?.[1] ?? "", Number(line.split(" ").at(-1))]));
}

test("a check that nobody has run has an age, which grows", async () => {
  await pool.query("update check_results set finished_at = finished_at - interval '3 days'");
  const ages = await valuesOf("check_age_seconds");
  expect(Object.keys(ages).toSorted()).toEqual(['check="audit_chain"', 'check="ledger"']);
  for (const age of Object.values(ages)) expect(age).toBeGreaterThan(172_800);
});

test("a check that is switched off shows its last result and no age", async () => {
  showChecks(pool, ["ledger"]);
  expect(Object.keys(await valuesOf("check_age_seconds"))).toEqual(['check="ledger"']);
  expect(Object.keys(await valuesOf("check_passed"))).toHaveLength(2);
  showChecks(pool, []);
  expect(await valuesOf("check_age_seconds")).toEqual({});
  showChecks(pool);
});

test("a check that ends by an error has not passed, and the error goes on", async () => {
  const failing = () => Promise.reject(new Error("no memory"));
  await expect(noted({ pool, check: "ledger", log }, failing, () => true)).rejects.toThrow("no memory");
  expect(await valuesOf("check_passed")).toMatchObject({ 'check="ledger"': 0 });
});

test("a result that cannot be noted is logged, and the check's own answer stands", async () => {
  const logged: string[] = [];
  const hook = { ...log, error: (_: object, message: string) => logged.push(message) } as unknown as typeof log;
  const nobody = new Pool({ connectionString: "postgres://nobody@127.0.0.1:1/none" });
  expect(
    await noted(
      { pool: nobody, check: "ledger", log: hook },
      async () => 7,
      () => true,
    ),
  ).toBe(7);
  await nobody.end();
  expect(logged).toEqual(["the result of a check was not noted"]);
});

test("the last result of each check is shown with its age", async () => {
  await noteCheck(pool, "ledger", false);
  await noteCheck(pool, "audit_chain", true);
  expect(await valuesOf("check_passed")).toEqual({ 'check="ledger"': 0, 'check="audit_chain"': 1 });
  await pool.query("update check_results set finished_at = now() - interval '1 hour'");
  await noteCheck(pool, "ledger", true);
  expect(await valuesOf("check_passed")).toEqual({ 'check="ledger"': 1, 'check="audit_chain"': 1 });
  const { 'check="ledger"': ledger = -1, 'check="audit_chain"': chain = -1 } = await valuesOf("check_age_seconds");
  expect(ledger).toBeGreaterThanOrEqual(0);
  expect(ledger).toBeLessThan(60);
  expect(chain).toBeGreaterThan(3_599);
  expect(chain).toBeLessThan(3_660);
});

test("a check of a database that cannot be written is no failure", async () => {
  const reader = poolOf("-c default_transaction_read_only=on");
  await noteCheck(reader, "ledger", false);
  await reader.end();
  expect(await valuesOf("check_passed")).toMatchObject({ 'check="ledger"': 1 });
});

test("a statement that waits for a lock is shown, beside the size and the transactions of the database", async () => {
  expect((await valuesOf("postgres_lock_waits"))[""]).toBe(0);
  const [holder, waiter] = [await pool.connect(), await pool.connect()];
  await holder.query("begin; lock table check_results in share mode");
  const waiting = waiter.query("insert into check_results (name, passed) values ('other', true)");
  await expect.poll(async () => (await valuesOf("postgres_lock_waits"))[""]).toBe(1);
  expect((await valuesOf("postgres_longest_transaction_seconds"))[""]).toBeGreaterThan(0);
  await holder.query("rollback");
  await waiting;
  for (const client of [holder, waiter]) client.release();
  expect((await valuesOf("postgres_database_size_bytes"))[""]).toBeGreaterThan(1_000_000);
  expect((await valuesOf("postgres_transactions_total"))['kind="committed"']).toBeGreaterThan(0);
  expect(Object.keys(await valuesOf("postgres_blocks_total"))).toEqual(['kind="memory"', 'kind="elsewhere"']);
});

test("a statement waits for a connection only if another has to give its one back", async () => {
  const settings = { url: database.databaseUrl };
  const small = openDatabase({ settings, poolSize: 3, applicationName: "small", log });
  const waiting = async () => (await valuesOf("db_client_connection_pending_requests"))['db_client_connection_pool_name="small"'];
  const sleep = () => small.pool.query("select pg_sleep(0.5)");
  await Promise.all([sleep(), sleep()]);
  const served = [sleep(), sleep(), sleep()];
  expect(await waiting()).toBe(0);
  const queued = [sleep(), sleep()];
  expect(await waiting()).toBe(2);
  await Promise.all([...served, ...queued]);
  await small.kysely.destroy();
});

test("while all connections are used, their number is answered in time and what the database would say is left out", async () => {
  const used = openDatabase({ settings: { url: database.databaseUrl }, poolSize: 2, applicationName: "used", log });
  const ofUsed = async (name: string) => (await valuesOf(name))['db_client_connection_pool_name="used"'];
  showChecks(used.pool);
  showStatistics(used.pool);
  expect(await valuesOf("check_passed")).toMatchObject({ 'check="ledger"': 1 });
  const holders = await Promise.all([used.pool.connect(), used.pool.connect()]);
  for (let scrape = 1; scrape <= 2; scrape++) {
    const began = performance.now();
    const names = ["check_passed", "check_age_seconds", "postgres_lock_waits", "postgres_transactions_total"];
    expect(await Promise.all(names.map(valuesOf))).toEqual([{}, {}, {}, {}]);
    expect(performance.now() - began).toBeLessThan(3_000);
    // One statement for the checks and one for the statistics, however often they are asked for.
    expect(await ofUsed("db_client_connection_pending_requests")).toBe(2);
  }
  for (const holder of holders) holder.release();
  await expect.poll(() => valuesOf("check_passed")).toMatchObject({ 'check="ledger"': 1 });
  await used.pool.end();
  expect(await valuesOf("check_passed")).toEqual({});
  showChecks(pool);
  showStatistics(pool);
}, 30_000);

import { expect, test } from "vitest";
import { query } from "../src/native/postgres.ts";
import { testDatabase, testKafka } from "../src/testing.ts";

const rows = (url: string, sql: string) => query(url, async (client) => (await client.query(sql)).rows);

test("each test file gets a database of its own, and may give it back", { timeout: 120_000 }, async () => {
  const [one, other] = await Promise.all([testDatabase("stack"), testDatabase("stack")]);
  await rows(one.migrationDatabaseUrl, "CREATE TABLE only_here (id int)");
  expect(await rows(other.databaseUrl, "SELECT to_regclass('only_here') AS found")).toEqual([{ found: null }]);
  await one.drop();
  await expect(rows(one.databaseUrl, "SELECT 1")).rejects.toThrow("does not exist");
  await expect(one.drop()).rejects.toThrow("no database of this test run");
});

test("topics of two tests do not meet", { timeout: 600_000 }, async () => {
  const kafka = await testKafka();
  const names = [await kafka.freshTopic("patient.v1"), await kafka.freshTopic("patient.v1")];
  expect(new Set(names).size).toBe(2);
  expect(names[0]).toMatch(/^patient\.v1\.[0-9a-f]{8}$/);
});

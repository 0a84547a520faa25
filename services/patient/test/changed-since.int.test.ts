/** What changed since the answer before, over a real Postgres with writers in flight. */
import { setTimeout as delay } from "node:timers/promises";
import { createLogger } from "@pm/kit/log";
import { openDatabase } from "@pm/kit/postgres/database";
import { testDatabase } from "@pm/stack/testing";
import { expect, test } from "vitest";
import { type Client, patientsOfThisFile, someBody } from "./testing.ts";

const { admin, service } = await patientsOfThisFile();
const everything = "0001-01-01T00:00:00Z";

type Item = { id: string; version: number; name: string; deletedAt?: string };
type Answer = { items: Item[]; until: string; nextCursor?: string };

/** All pages of what changed, and the `until` that they share. */
async function changesSince(since: string, { who = admin as Client, query = "" } = {}): Promise<{ items: Item[]; until: string }> {
  const items: Item[] = [];
  let until: string | undefined;
  for (let cursor = ""; ; ) {
    const { status, body } = await who.send("GET", `/patients?limit=20&updatedAfter=${encodeURIComponent(since)}${query}${cursor}`);
    expect(status).toBe(200);
    const page = body as Answer;
    until ??= page.until;
    expect(page.until).toBe(until);
    items.push(...page.items);
    if (!page.nextCursor) return { items, until };
    cursor = `&cursor=${page.nextCursor}`;
  }
}
const create = async (name: string) => (await admin.send("POST", "/patients", someBody({ name }))).body as Item;
const namesOf = ({ items }: { items: Item[] }) => items.map(({ name }) => name);

test("each answer says where the next one begins, and has what was written in between", async () => {
  const ada = await create("Ada");
  await create("Grace");
  const first = await changesSince(everything);
  expect(namesOf(first)).toEqual(["Ada", "Grace"]);
  expect((await changesSince(first.until)).items).toEqual([]);
  await admin.send("PATCH", `/patients/${ada.id}`, { name: "Ada King" });
  const second = await changesSince(first.until);
  expect(namesOf(second)).toEqual(["Ada King"]);
  expect((await changesSince(second.until)).items).toEqual([]);
});

test("deleted patients are among the changes on request, with the time of the deletion", async () => {
  const { id } = await create("Short");
  const { until } = await changesSince(everything);
  await admin.send("DELETE", `/patients/${id}`);
  expect((await changesSince(until)).items).toEqual([]);
  const { items } = await changesSince(until, { query: "&deleted=include" });
  expect(items).toEqual([expect.objectContaining({ id, version: 2, deletedAt: expect.any(String) })]);
  await admin.send("POST", `/patients/${id}:restore`);
  const restored = await changesSince(until, { query: "&deleted=include" });
  expect(restored.items).toEqual([expect.objectContaining({ id, version: 3 })]);
  expect(restored.items[0]).not.toHaveProperty("deletedAt");
});

test("a row that is newer than the oldest write in flight waits for the answer after it", async () => {
  const held = await create("Held");
  const { until } = await changesSince(everything);
  const writer = await service.db.pool.connect();
  try {
    await writer.query("begin");
    await writer.query("update patients set version = version + 1, name = 'Held back' where id = $1", [held.id]);
    await create("Newer");
    const during = await changesSince(until);
    expect(during.items).toEqual([]);
    // Nothing is finished that was not finished before, so the next answer begins where this one did, at the latest.
    expect((await changesSince(during.until)).items).toEqual([]);
    await writer.query("commit");
    expect(namesOf(await changesSince(during.until))).toEqual(["Held back", "Newer"]);
  } finally {
    writer.release();
  }
});

test("writes to other databases of the server hold nothing back", async () => {
  const other = await testDatabase("kit");
  const log = createLogger("test", "silent");
  const { kysely, pool } = openDatabase({ settings: { url: other.migrationDatabaseUrl }, poolSize: 1, applicationName: "other", log });
  const client = await pool.connect();
  try {
    await client.query("begin");
    await client.query("create table held (id int)");
    const { until } = await changesSince(everything);
    await create("Beside");
    expect(namesOf(await changesSince(until))).toEqual(["Beside"]);
  } finally {
    client.release(true);
    await kysely.destroy();
    await other.drop();
  }
});

test("reads that are in flight hold nothing back", async () => {
  const { until } = await changesSince(everything);
  const reader = await service.db.pool.connect();
  try {
    await reader.query("begin isolation level repeatable read");
    await reader.query("declare all_patients cursor with hold for select * from patients");
    await reader.query("fetch 1 from all_patients");
    await create("Meanwhile");
    expect(namesOf(await changesSince(until))).toEqual(["Meanwhile"]);
    await reader.query("rollback");
  } finally {
    reader.release();
  }
});

test("with 64 writers at once, a client that follows sees the last version of everybody", { timeout: 120_000 }, async () => {
  let { until } = await changesSince(everything);
  const seen = new Map<string, number>();
  const written = new Map<string, number>();
  let running = true;
  async function write(number: number): Promise<void> {
    const { id } = await create(`Writer ${number}`);
    written.set(id, 1);
    for (let round = 0; round < 5; round++) {
      const patched = await admin.send("PATCH", `/patients/${id}`, { name: `Writer ${number} round ${round}` });
      written.set(id, patched.body.version);
    }
    // A write by hand that stays open for a while, as a slow replica would leave it.
    const client = await service.db.pool.connect();
    try {
      await client.query("begin");
      await client.query("update patients set version = version + 1, updated_at = now() - interval '1 hour' where id = $1", [id]);
      await delay(number % 20);
      await client.query("commit");
      written.set(id, (written.get(id) ?? 0) + 1);
    } finally {
      client.release();
    }
  }
  async function follow(): Promise<void> {
    const answer = await changesSince(until);
    for (const { id, version } of answer.items) seen.set(id, Math.max(version, seen.get(id) ?? 0));
    until = answer.until;
  }
  const follower = (async () => {
    while (running) await follow();
  })();
  await Promise.all(Array.from({ length: 64 }, (_, number) => write(number)));
  running = false;
  await follower;
  await follow();
  expect(written.size).toBe(64);
  expect(seen).toEqual(written);
});

test("an until of another server, or from before a restore, begins a day earlier instead", async () => {
  await create("Before the copy");
  const { until } = await changesSince(everything);
  const [at, , server] = until.split("_");
  for (const foreign of [`${at}_1_7.1`, `${at}_99999999999_${server}`])
    expect(namesOf(await changesSince(foreign))).toContain("Before the copy");
  const tomorrow = new Date(Date.now() + 2 * 86_400_000).toISOString();
  expect((await changesSince(`${tomorrow}_1_7.1`)).items).toEqual([]);
});

test("an export has the same changes, and its until in a header", async () => {
  const first = await admin.send("GET", `/patients:export?updatedAfter=${everything}`);
  const { id } = await create("Exported");
  await admin.send("DELETE", `/patients/${(await create("Gone")).id}`);
  const until = encodeURIComponent(first.headers.get("until") ?? "");
  const second = await admin.send("GET", `/patients:export?updatedAfter=${until}&deleted=include`);
  const lines = second.text.split("\n").filter(Boolean);
  expect(lines.map((line) => JSON.parse(line).name)).toEqual(["Exported", "Gone"]);
  expect(JSON.parse(lines[0] ?? "")).toMatchObject({ id });
  expect(JSON.parse(lines[1] ?? "")).toHaveProperty("deletedAt");
  expect((await admin.send("GET", "/patients:export?format=csv&deleted=true")).text).toContain("deletedAt");
});

test("what is no instant and no until is refused by name", async () => {
  for (const wrong of ["yesterday", "2026-01-01", "2026-02-30T00:00:00Z", "2026-01-01T00:00:00Z_x_1"]) {
    const { status, body } = await admin.send("GET", `/patients?updatedAfter=${wrong}`);
    expect([wrong, status, body.errors[0].path]).toEqual([wrong, 400, "updatedAfter"]);
  }
});

test("born between two days, both of them included", async () => {
  for (const day of ["1930-12-31", "1931-01-01", "1931-12-31", "1932-01-01"])
    await admin.send("POST", "/patients", someBody({ name: day, dateOfBirth: day }));
  const { body } = await admin.send("GET", "/patients?bornBetween=1931-01-01,1931-12-31");
  expect(namesOf(body)).toEqual(["1931-01-01", "1931-12-31"]);
  for (const wrong of ["1931-01-01", "1931-01-01,1931-02-30", "1932-01-01,1931-01-01"]) {
    const refused = await admin.send("GET", `/patients?bornBetween=${wrong}`);
    expect([wrong, refused.status, refused.body.errors[0].path]).toEqual([wrong, 400, "bornBetween"]);
  }
});

test("a total is exact on request, on the first page, for who asks", async () => {
  for (let number = 0; number < 4; number++) await create(`Countable ${number}`);
  const { body } = await admin.send("GET", "/patients?q=countable&limit=2&count=exact");
  expect(body.total).toBe(4);
  const next = await admin.send("GET", `/patients?q=countable&limit=2&count=exact&cursor=${body.nextCursor}`);
  expect(next.body).not.toHaveProperty("total");
  expect((await admin.send("GET", "/patients?q=countable")).body).not.toHaveProperty("total");
  expect((await service.as("user").send("GET", "/patients?q=countable&count=exact")).body.total).toBe(0);
});

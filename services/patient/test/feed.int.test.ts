/** Every version of all patients, for clients that follow, over a real Postgres with writers in flight. */
import { randomUUID } from "node:crypto";
import { setTimeout as delay } from "node:timers/promises";
import { expect, test } from "vitest";
import { type Client, patientsOfThisFile, someBody } from "./testing.ts";

const { admin, service } = await patientsOfThisFile();

type Item = {
  id: string;
  version: number;
  action: string;
  updatedAt?: string;
  deletedAt?: string;
  name?: string;
  [field: string]: unknown;
};
type Answer = { items: Item[]; until: string; completeUntil: string; nextCursor?: string };

/** All pages of an answer. */
async function follow(query: Record<string, string> = {}, who: Client = admin): Promise<Omit<Answer, "nextCursor">> {
  const items: Item[] = [];
  let first: Answer | undefined;
  for (let cursor: string | undefined; ; ) {
    const parameters = new URLSearchParams({ limit: "7", ...query, ...(cursor !== undefined && { cursor }) });
    const { status, body } = await who.send("GET", `/patients/changes?${parameters}`);
    expect(status, JSON.stringify(body)).toBe(200);
    const page = body as Answer;
    first ??= page;
    expect([page.until, page.completeUntil]).toEqual([first.until, first.completeUntil]);
    items.push(...page.items);
    if (!page.nextCursor) return { ...first, items };
    cursor = page.nextCursor;
  }
}
const create = async (name: string, who: Client = admin): Promise<Item> =>
  (await who.send("POST", "/patients?duplicates=allow", someBody({ name }))).body;
const briefly = ({ items }: { items: Item[] }) => items.map(({ id, version, action }) => [id, version, action]);
const contentOf = ({ billing: _billing, possibleDuplicates: _possible, ...content }: Record<string, unknown>) => content;

test("every version is there with what it was, deletions without content, oldest or newest first", async () => {
  const { until } = await follow();
  const ada = await create("Ada");
  const grace = await create("Grace");
  const king = (await admin.send("PATCH", `/patients/${ada.id}`, { name: "Ada King" })).body;
  await admin.send("DELETE", `/patients/${grace.id}`);
  const { items } = await follow({ since: until });
  const by = admin.caller.id;
  expect(items).toEqual([
    { ...contentOf(ada), action: "registered", by },
    { ...contentOf(grace), action: "registered", by },
    { ...contentOf(king), action: "updated", by },
    { id: grace.id, version: 2, action: "deleted", deletedAt: expect.any(String), by },
  ]);
  expect((await follow({ since: until, order: "newest", limit: "3" })).items).toEqual(items.toReversed());
});

test("an answer begins and ends at an until, or at an instant", async () => {
  const { until: before } = await follow();
  const first = await create("First");
  const { until: between } = await follow();
  const second = await create("Second");
  const { until: after } = await follow();
  await create("Third");
  expect(briefly(await follow({ since: before, until: between }))).toEqual([[first.id, 1, "registered"]]);
  expect(briefly(await follow({ since: between, until: after }))).toEqual([[second.id, 1, "registered"]]);
  for (const order of ["oldest", "newest"])
    expect(briefly(await follow({ since: String(first.createdAt), until: String(second.createdAt), order }))).toEqual([
      [first.id, 1, "registered"],
    ]);
  expect((await follow({ since: "2999-01-01T00:00:00Z" })).items).toEqual([]);
  expect((await follow({ until: "2000-01-01T00:00:00Z" })).items).toEqual([]);
});

test("a version waits for the oldest write in flight, and until then no instant is complete", async () => {
  const held = await create("Held");
  const { until } = await follow();
  const writer = await service.db.pool.connect();
  try {
    await writer.query("begin");
    await writer.query(
      `insert into patient_versions (patient_id, version, action, changed_at, changed_by, record)
       select patient_id, 2, 'updated', now(), 'test', record from patient_versions where patient_id = $1`,
      [held.id],
    );
    const began = Date.now();
    const newer = await create("Newer");
    const during = await follow({ since: until });
    expect(during.items).toEqual([]);
    expect(Date.parse(during.completeUntil)).toBeLessThan(began - 50_000);
    await writer.query("commit");
    for (const since of [until, during.until])
      expect(briefly(await follow({ since }))).toEqual([
        [held.id, 2, "updated"],
        [newer.id, 1, "registered"],
      ]);
    expect(briefly(await follow({ since: during.completeUntil }))).toEqual(expect.arrayContaining([[held.id, 2, "updated"]]));
  } finally {
    writer.release();
  }
});

test("with 48 writers at once, who follows by until or by instants sees every version", { timeout: 120_000 }, async () => {
  const start = await follow();
  const written = new Set<string>();
  let running = true;
  async function write(number: number): Promise<void> {
    const { id } = await create(`Writer ${number}`);
    written.add(`${id} 1`);
    for (let round = 0; round < 4; round++) {
      const { body } = await admin.send("PATCH", `/patients/${id}`, { name: `Writer ${number} round ${round}` });
      written.add(`${id} ${body.version}`);
    }
    // A transaction that began before others and commits after them, as a slow replica would leave it.
    const client = await service.db.pool.connect();
    try {
      await client.query("begin");
      await client.query(
        `insert into patient_versions (patient_id, version, action, changed_at, changed_by, record)
         values ($1, 6, 'updated', now() - interval '20 seconds', 'test', '{"name": "Slow"}')`,
        [id],
      );
      await delay(number % 30);
      await client.query("commit");
      written.add(`${id} 6`);
    } finally {
      client.release();
    }
  }
  async function followBy(next: (answer: Answer) => string, seen: Set<string>): Promise<void> {
    let since = next(start);
    for (let isLast = false; !isLast; ) {
      isLast = !running;
      const answer = await follow({ since, limit: "50" });
      for (const { id, version } of answer.items) seen.add(`${id} ${version}`);
      since = next(answer);
    }
  }
  const [exactly, byInstants] = [new Set<string>(), new Set<string>()];
  const followers = [followBy(({ until }) => until, exactly), followBy(({ completeUntil }) => completeUntil, byInstants)];
  await Promise.all(Array.from({ length: 48 }, (_, number) => write(number)));
  running = false;
  await Promise.all(followers);
  expect(written.size).toBe(48 * 6);
  expect(exactly).toEqual(written);
  expect([...written].filter((version) => !byInstants.has(version))).toEqual([]);
});

test("a caller follows what they may see; what is shared later is there from a since before it was made", async () => {
  const [owner, reader] = [service.as("user"), service.as("user")];
  const { until } = await follow({}, reader);
  const own = await create("Own", reader);
  const other = await create("Other", owner);
  expect(briefly(await follow({ since: until }, reader))).toEqual([[own.id, 1, "registered"]]);
  const later = await follow({}, reader);
  await owner.send("PUT", `/patients/${other.id}/access`, { users: [reader.caller.id], teams: [] });
  expect((await follow({ since: later.until }, reader)).items).toEqual([]);
  expect(briefly(await follow({ since: until }, reader))).toEqual([
    [own.id, 1, "registered"],
    [other.id, 1, "registered"],
  ]);
});

test("a merge names the record that was merged, and an undone one as well", async () => {
  const [survivor, duplicate] = [await create("Ada Lovelace"), await create("Ada Byron")];
  const { until } = await follow();
  const merge = { duplicateId: duplicate.id, duplicateVersion: 1 };
  expect((await admin.send("POST", `/patients/${survivor.id}:merge`, merge, { "if-match": '"1"' })).status).toBe(200);
  expect((await admin.send("POST", `/patients/${survivor.id}:unmerge`, { duplicateId: duplicate.id })).status).toBe(200);
  expect((await follow({ since: until })).items).toEqual([
    expect.objectContaining({ id: survivor.id, version: 2, action: "merged", mergedPatientId: duplicate.id, replaces: [duplicate.id] }),
    expect.objectContaining({ id: survivor.id, version: 3, action: "unmerged", unmergedPatientId: duplicate.id }),
  ]);
});

test("of an erased patient, that they were erased is all that is told", async () => {
  const { id } = await create("Erased");
  const { until } = await follow();
  const eraser = service.as("admin", { hasSecondFactor: true });
  const erased = await eraser.send("POST", `/patients/${id}:erase`, { reason: "They asked", restrict: true });
  expect(erased.status, erased.text).toBe(202);
  await service.eraseDue();
  expect(briefly(await follow({ since: until }))).toEqual([[id, 2, "erased"]]);
  expect((await follow()).items.filter((item) => item.id === id)).toEqual([expect.objectContaining({ version: 2, action: "erased" })]);
});

test("each page leaves an entry that says whom it showed", async () => {
  const reader = service.as("user");
  const [one, two] = [await create("One", reader), await create("Two", reader)];
  await reader.send("PATCH", `/patients/${one.id}`, { name: "One again" });
  await reader.send("GET", "/patients/changes?limit=2");
  const { rows } = await service.db.pool.query(
    `select details->'ids' as ids, (select array_agg(patient_id) from audit_patients p where p.entry_id = e.id) as patients
     from audit_entries e where actor = $1 and action = 'patient.changes_read'`,
    [reader.caller.id],
  );
  expect(rows).toHaveLength(1);
  for (const ids of [rows[0].ids, rows[0].patients]) expect(new Set(ids)).toEqual(new Set([one.id, two.id]));
});

test("what is no place and no cursor of this answer is refused by name", async () => {
  for (const [query, path] of [
    ["since=yesterday", "since"],
    ["until=2026-02-30T00:00:00Z", "until"],
    ["order=random", "order"],
    ["cursor=abc", "cursor"],
    ["updatedAfter=2026-01-01T00:00:00Z", "updatedAfter"],
  ]) {
    const { status, body } = await admin.send("GET", `/patients/changes?${query}`);
    expect([query, status, JSON.stringify(body.errors)]).toEqual([query, 400, expect.stringContaining(`"path":"${path}"`)]);
  }
  expect((await service.as("user").send("GET", `/patients/changes?since=${randomUUID()}`)).status).toBe(400);
});

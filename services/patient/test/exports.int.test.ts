/** Exports as of one moment, over a real Postgres with writers in flight. */
import { randomUUID } from "node:crypto";
import { query } from "@pm/stack/native/postgres";
import { expect, test } from "vitest";
import { type Client, patientsOfThisFile, someBody } from "./testing.ts";

const { service, admin, database } = await patientsOfThisFile();
const asOwner = (text: string, values: unknown[] = []) => query(database.migrationDatabaseUrl, (client) => client.query(text, values));

type Line = { id: string; version: number; name: string; mergedInto?: string; replaces?: string[]; deletedAt?: string; updatedAt: string };
type Created = { exportId: string; cutoff: string };

async function created(body: object = {}, by: Client = admin): Promise<Created> {
  const answer = await by.send("POST", "/patients/exports", body);
  expect([answer.status, answer.headers.get("location")]).toEqual([201, `/patients/exports/${answer.body.exportId}`]);
  return answer.body;
}
async function lines(of: Created, stream: "patients" | "deletions", by: Client = admin): Promise<Line[]> {
  const { status, headers, text } = await by.send("GET", `/patients/exports/${of.exportId}/${stream}`);
  expect([status, headers.get("content-type")]).toEqual([200, "application/x-ndjson; charset=utf-8"]);
  return text.split("\n").filter(Boolean).map((line) => JSON.parse(line)); // biome-ignore format: one thing
}
const patientsOf = (of: Created, by?: Client) => lines(of, "patients", by);
const deletionsOf = (of: Created, by?: Client) => lines(of, "deletions", by);
const drop = (of: Created, by: Client = admin) => by.send("DELETE", `/patients/exports/${of.exportId}`);
const namesOf = (list: Line[], prefix: string) => list.map(({ name }) => name).filter((name) => name.startsWith(prefix));

async function create(name: string, by: Client = admin): Promise<Line> {
  const { status, body } = await by.send("POST", "/patients?duplicates=allow", someBody({ name }));
  expect(status).toBe(201);
  return body;
}
const merge = (survivor: { id: string; version: number }, duplicate: { id: string; version: number }) =>
  admin.send("POST", `/patients/${survivor.id}:merge`, { duplicateId: duplicate.id, duplicateVersion: duplicate.version }, { "if-match": `"${survivor.version}"` }); // biome-ignore format: one request

test("an export has the patients as they were when it was created, whatever was written since", async () => {
  const [changed, deleted, restored] = [await create("Then Changed"), await create("Then Deleted"), await create("Then Restored")];
  await admin.send("DELETE", `/patients/${restored.id}`);
  const job = await created();
  await admin.send("PATCH", `/patients/${changed.id}`, { name: "Then Other" });
  await admin.send("DELETE", `/patients/${deleted.id}`);
  await admin.send("POST", `/patients/${restored.id}:restore`);
  await create("Then New");
  const exported = await patientsOf(job);
  expect(namesOf(exported, "Then")).toEqual(["Then Changed", "Then Deleted"]);
  expect(exported.find(({ id }) => id === changed.id)).toEqual(
    Object.fromEntries(Object.entries(changed).filter(([field]) => field !== "billing" && field !== "possibleDuplicates")),
  );
  expect((await deletionsOf(job)).map(({ id }) => id)).toEqual([restored.id]);
  expect((await patientsOf(job)).length).toBe(exported.length);
  const { body } = await admin.send("GET", `/patients/exports/${job.exportId}`);
  expect(body).toMatchObject({ ...job, state: "finished", patients: exported.length });
  await drop(job);
});

test("the next export has what the one before had not, whatever the clocks say", async () => {
  const [one, other] = [await create("Since One"), await create("Since Other")];
  const before = await created();
  expect((await drop(before)).status).toBe(204);
  const client = await service.db.pool.connect();
  try {
    // A slow replica, whose clock is an hour behind.
    await client.query("begin");
    await client.query("update patients set version = version + 1 where id = $1", [one.id]);
    await client.query(
      `insert into patient_versions (patient_id, version, action, changed_at, changed_by, record)
        select patient_id, 2, 'updated', now() - interval '1 hour', 'x', record from patient_versions where patient_id = $1`,
      [one.id],
    );
    const during = await created({ since: before.cutoff });
    expect(await patientsOf(during)).toEqual([]);
    await client.query("commit");
    await admin.send("DELETE", `/patients/${other.id}`);
    const after = await created({ since: during.cutoff });
    expect(await patientsOf(after)).toMatchObject([{ id: one.id, version: 2 }]);
    expect(await deletionsOf(after)).toEqual([{ id: other.id, version: 2, deletedAt: expect.any(String) }]);
    const last = await created({ since: after.cutoff });
    expect([...(await patientsOf(last)), ...(await deletionsOf(last))]).toEqual([]);
  } finally {
    client.release();
  }
});

test("an instant that is no cutoff is compared with the times of the changes", async () => {
  await create("Instant Old");
  const { updatedAt } = await create("Instant Middle");
  const { name } = await create("Instant New");
  const job = await created({ since: updatedAt });
  expect(namesOf(await patientsOf(job), "Instant")).toEqual([name]);
  const other = await created({ since: "2999-01-01T00:00:00+02:00" });
  expect(await patientsOf(other)).toEqual([]);
});

test("after the database has moved to another server, an export ends, and the next one repeats a day", async () => {
  const { name } = await create("Moved");
  const before = await created();
  await asOwner("update patient_exports set server = '7.1' where id = $1", [before.exportId]);
  const { status, body } = await admin.send("GET", `/patients/exports/${before.exportId}/patients`);
  expect([status, body.reason]).toEqual([409, "EXPORT_LOST"]);
  const after = await created({ since: before.cutoff });
  expect(namesOf(await patientsOf(after), "Moved")).toEqual([name]);
  await drop(before);
});

test("a merged record says what it was merged into; a merge that was undone since is still there", async () => {
  const [one, two, three] = [await create("Merge One"), await create("Merge Two"), await create("Merge Three")];
  const apart = await created();
  await drop(apart);
  expect((await merge(two, three)).status).toBe(200);
  expect((await merge(one, { ...two, version: 2 })).status).toBe(200);
  const merged = await created({ since: apart.cutoff });
  expect((await admin.send("POST", `/patients/${one.id}:unmerge`, { duplicateId: two.id })).status).toBe(200);
  const undone = await created({ since: merged.cutoff });
  const linksOf = async (job: Created) =>
    (await patientsOf(job)).map(({ id, version, mergedInto, replaces }) => ({ id, version, mergedInto, replaces }));
  // biome-ignore format: tables
  expect(await linksOf(merged)).toEqual([
    { id: one.id, version: 2, mergedInto: undefined, replaces: [two.id] },
    { id: two.id, version: 2, mergedInto: one.id, replaces: [three.id] },
    { id: three.id, version: 1, mergedInto: two.id, replaces: undefined },
  ]);
  // biome-ignore format: tables
  expect(await linksOf(undone)).toEqual([
    { id: one.id, version: 3, mergedInto: undefined, replaces: undefined },
    { id: two.id, version: 2, mergedInto: undefined, replaces: [three.id] },
  ]);
  for (const job of [merged, undone]) expect(await deletionsOf(job)).toEqual([]);
});

test("whoever was erased is in no export any more, also in one from before, and the next one lists a deletion", async () => {
  const { id } = await create("Erased Quillonbrack");
  const before = await created();
  await asOwner("update patient_versions set changed_at = changed_at - interval '11 years' where patient_id = $1", [id]);
  await asOwner("update patient_billing set account_id = coalesce(account_id, gen_random_uuid()), next_attempt_at = null");
  const eraser = service.as("admin", { hasSecondFactor: true });
  expect((await eraser.send("POST", `/patients/${id}:erase`, { reason: "They asked" })).status).toBe(202);
  expect(namesOf(await patientsOf(before), "Erased")).toEqual([]);
  const after = await created({ since: before.cutoff });
  expect(await patientsOf(after)).toEqual([]);
  expect(await deletionsOf(after)).toEqual([{ id, version: 2, deletedAt: expect.any(String) }]);
});

test("callers get what they may see when they read, of a team what is shared with it; exports of others are 404", async () => {
  const team = randomUUID();
  const [owner, member, stranger] = [service.as("user"), service.as("user", { teams: [team] }), service.as("user")];
  const [own, shared] = [await create("Access Own", owner), await create("Access Shared", owner)];
  const share = (teams: string[]) => owner.send("PUT", `/patients/${shared.id}/access`, { users: [], teams });
  await share([team]);
  const [ofOwner, ofMember] = [await created({}, owner), await created({}, member)];
  expect((await patientsOf(ofOwner, owner)).map(({ id }) => id)).toEqual([own.id, shared.id]);
  expect((await patientsOf(ofMember, member)).map(({ id }) => id)).toEqual([shared.id]);
  const ofTeam = await created({ team });
  expect((await patientsOf(ofTeam)).map(({ id }) => id)).toEqual([shared.id]);
  const own404 = { status: 404, body: { code: "not_found" } };
  for (const caller of [owner, stranger]) expect(await caller.send("POST", "/patients/exports", { team })).toMatchObject(own404);
  await share([]);
  expect(await patientsOf(ofMember, member)).toEqual([]);
  for (const path of ["", "/patients", "/deletions"])
    expect((await stranger.send("GET", `/patients/exports/${ofOwner.exportId}${path}`)).status).toBe(404);
  expect((await drop(ofOwner, stranger)).status).toBe(404);
});

test("whoever leaves a team loses what it sees, also in an export from before", async () => {
  const team = randomUUID();
  const member = service.as("user", { teams: [team] });
  const job = await created({ team }, member);
  expect(await patientsOf(job, member)).toEqual([]);
  const left = service.as("user", { id: member.caller.id });
  for (const stream of ["patients", "deletions"])
    expect((await left.send("GET", `/patients/exports/${job.exportId}/${stream}`)).status).toBe(404);
});

test("the next export has patients who were shared since, with the caller, their team, and the team of the export", async () => {
  const team = randomUUID();
  const [owner, member] = [service.as("user"), service.as("user", { teams: [team] })];
  const [one, two] = [await create("Late One", owner), await create("Late Two", owner)];
  const jobs = async (since: { own?: string; team?: string; all?: string } = {}) => {
    const of = async (body: object, by: Client) => {
      const job = await created(body, by);
      const ids = (await patientsOf(job, by)).map(({ id }) => id);
      return { ids, cutoff: job.cutoff };
    };
    return {
      own: await of({ since: since.own }, member),
      team: await of({ team, since: since.team }, member),
      all: await of({ team, since: since.all }, admin),
    };
  };
  const share = (id: string, users: string[], teams: string[]) => owner.send("PUT", `/patients/${id}/access`, { users, teams });
  const idsOf = ({ own, team: ofTeam, all }: Awaited<ReturnType<typeof jobs>>) => [own.ids, ofTeam.ids, all.ids];
  const cutoffsOf = ({ own, team: ofTeam, all }: Awaited<ReturnType<typeof jobs>>) => ({
    ...{ own: own.cutoff, team: ofTeam.cutoff, all: all.cutoff },
  });
  const none = await jobs();
  expect(idsOf(none)).toEqual([[], [], []]);
  await share(one.id, [member.caller.id], []);
  await share(two.id, [], [team]);
  const shared = await jobs(cutoffsOf(none));
  expect(idsOf(shared)).toEqual([[one.id, two.id], [two.id], [two.id]]);
  await asOwner("update patient_access set granted_at = granted_at - interval '2 minutes'");
  expect(idsOf(await jobs(cutoffsOf(shared)))).toEqual([[], [], []]);
});

test("the cutoff of an export of another team is an instant like any other", async () => {
  const [team, other] = [randomUUID(), randomUUID()];
  const before = await created({ team });
  await drop(before);
  const exactly = async (body: object) => {
    const job = await created({ since: before.cutoff, ...body });
    await drop(job);
    const text = "select since_snapshot is not null as exact from patient_exports where id = $1";
    return (await asOwner(text, [job.exportId])).rows[0].exact;
  };
  expect([await exactly({ team }), await exactly({ team: other }), await exactly({})]).toEqual([true, false, false]);
});

test("a third export that is not finished is 429, until one is read, deleted or forgotten", async () => {
  const user = service.as("user");
  const [one, two] = [await created({}, user), await created({}, user)];
  const refused = await user.send("POST", "/patients/exports", {});
  expect([refused.status, refused.headers.get("retry-after"), refused.body.reason]).toEqual([429, "60", "TOO_MANY_EXPORTS"]);
  expect(refused.body.detail).toContain(one.exportId);
  await patientsOf(one, user);
  const three = await created({}, user);
  expect((await user.send("POST", "/patients/exports", {})).status).toBe(429);
  await drop(two, user);
  expect((await user.send("GET", `/patients/exports/${two.exportId}/patients`)).status).toBe(404);
  await created({}, user);
  await asOwner("update patient_exports set read_at = read_at - interval '61 minutes' where id = $1", [three.exportId]);
  await created({}, user);
  await asOwner("update patient_exports set cutoff = cutoff - interval '25 hours' where caller = $1", [user.caller.id]);
  expect((await user.send("GET", `/patients/exports/${three.exportId}`)).status).toBe(404);
  const many = service.as("user");
  const statuses = await Promise.all(Array.from({ length: 8 }, async () => (await many.send("POST", "/patients/exports", {})).status));
  expect(statuses.toSorted()).toEqual([201, 201, 429, 429, 429, 429, 429, 429]);
});

test("the audit trail has the export, whom it showed, and its end", async () => {
  const user = service.as("user");
  const { id } = await create("Audited", user);
  const job = await created({}, user);
  await patientsOf(job, user);
  await drop(job, user);
  const { rows } = await asOwner("select action, subject, details from audit_entries where actor = $1 order by id", [user.caller.id]);
  expect(rows.map(({ action, subject }) => [action, subject]).slice(1)).toEqual([
    ["export.created", job.exportId],
    ["patient.exported", "patients"],
    ["export.deleted", job.exportId],
  ]);
  expect(rows[2].details).toEqual({ export: job.exportId, ids: [id] });
  const shown =
    "select patient_id from audit_patients a join audit_entries e on e.id = a.entry_id where actor = $1 and action = 'patient.exported'";
  expect((await asOwner(shown, [user.caller.id])).rows).toEqual([{ patient_id: id }]);
});

test("a wrong field is named", async () => {
  for (const [body, path] of [
    [{ since: "yesterday" }, "since"],
    [{ since: "0000-01-01T00:00:00Z" }, "since"],
    [{ team: "a b" }, "team"],
    [{ kind: "all" }, "kind"],
  ] as const) {
    const answer = await admin.send("POST", "/patients/exports", body);
    expect([answer.status, answer.body.errors?.[0].path]).toEqual([400, path]);
  }
});

/** Everything that can be written to one of a few patients, as often as `isRunning` says. */
async function write(seed: number, isRunning: () => boolean): Promise<void> {
  let state = seed;
  const random = (below: number) => {
    state = (state * 1_103_515_245 + 12_345) % 2_147_483_648;
    return Math.floor((state / 2_147_483_648) * below);
  };
  const own: string[] = [];
  while (isRunning()) {
    const [id, other] = [own[random(own.length)], own[random(own.length)]];
    const what = random(7);
    if (what === 0 || id === undefined || other === undefined) own.push((await create(`Writer ${seed}`)).id);
    else if (what === 1) await admin.send("DELETE", `/patients/${id}`);
    else if (what === 2) await admin.send("POST", `/patients/${id}:restore`);
    else if (what === 3) await admin.send("POST", `/patients/${id}:unmerge`, { duplicateId: other });
    else if (what === 4) {
      const versions = await asOwner("select id, version::int from patients where id in ($1, $2)", [id, other]);
      const of = (wanted: string) => ({ id: wanted, version: versions.rows.find((row) => row.id === wanted)?.version });
      await merge(of(id), of(other));
    } else await admin.send("PATCH", `/patients/${id}`, { name: `Writer ${seed} ${random(1_000)}` });
  }
}

test("under concurrent writes, every export equals the state at its cutoff, and so do the exports since each other", {
  timeout: 240_000,
}, async () => {
  let running = true;
  const writers = Promise.all(Array.from({ length: 6 }, (_, seed) => write(seed + 1, () => running)));
  const summary = ({ id, version, name, mergedInto }: Line) => [id, { version, name, ...(mergedInto && { mergedInto }) }] as const;
  const reader = await service.db.pool.connect();
  let since: string | undefined;
  const followed = new Map<string, object>();
  try {
    for (let round = 0; round < 12; round++) {
      await reader.query("begin isolation level repeatable read");
      const { rows: [{ snapshot }] } = await reader.query("select pg_current_snapshot()::text as snapshot"); // biome-ignore format: one value
      const { rows: state } = await reader.query(
        `select p.id, p.version::int, p.name, m.survivor_id as "mergedInto" from patients p
          left join patient_merges m on m.duplicate_id = p.id and m.undone_version is null
          where p.erased_at is null and (p.deleted_at is null or p.merged_into is not null) order by p.id`,
      );
      await reader.query("commit");
      const [whole, changes] = [await created(), await created(since === undefined ? {} : { since })];
      for (const { exportId } of [whole, changes])
        await service.db.pool.query("update patient_exports set snapshot = $2::pg_snapshot where id = $1", [exportId, snapshot]);
      const expected = Object.fromEntries(state.map(summary));
      expect(Object.fromEntries((await patientsOf(whole)).map(summary))).toEqual(expected);
      for (const { id } of await deletionsOf(changes)) followed.delete(id);
      for (const [id, line] of (await patientsOf(changes)).map(summary)) followed.set(id, line);
      expect(Object.fromEntries(followed)).toEqual(expected);
      since = changes.cutoff;
    }
  } finally {
    running = false;
    reader.release();
    await writers;
  }
  const { rows } = await asOwner("select count(*)::int as merges, count(undone_version)::int as undone from patient_merges");
  expect(rows[0].merges).toBeGreaterThan(3);
  expect(rows[0].undone).toBeGreaterThan(0);
});

test("an export reads no further ahead than its reader, and ends when it is deleted", { timeout: 120_000 }, async () => {
  const owner = service.as("user");
  const file = Array.from({ length: 5_000 }, () => `${JSON.stringify(someBody())}\n`).join("");
  expect((await owner.send("POST", "/patients:import", file, { "content-type": "application/x-ndjson" })).body.created).toBe(5_000);
  const job = await created({}, owner);
  const headers = { authorization: `Bearer ${owner.caller.token}` };
  const reader = (await service.app.request(`/patients/exports/${job.exportId}/patients`, { headers })).body?.getReader();
  await reader?.read();
  for (let round = 0; round < 20; round++) await service.db.pool.query("select 1");
  const { body } = await owner.send("GET", `/patients/exports/${job.exportId}`);
  expect([body.state, body.patients <= 4_000]).toEqual(["open", true]);
  await drop(job, owner);
  const rest = (async () => {
    for (let part = await reader?.read(); !part?.done; part = await reader?.read());
  })();
  await expect(rest).rejects.toThrow("You have no export with this id");
});

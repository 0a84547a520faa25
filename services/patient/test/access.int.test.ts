/** Who may do what with a patient, whatever the grants: that the rule is one rule, and what each level allows. */
import { randomUUID } from "node:crypto";
import { query } from "@pm/stack/native/postgres";
import * as fc from "fast-check";
import { sql } from "kysely";
import { expect, test } from "vitest";
import { viewerOf } from "../src/caller.ts";
import { accessConditions, accessLevel, visible } from "../src/patients/access-store.ts";
import { type Client, patientsOfThisFile, someBody } from "./testing.ts";

const { database, service, admin } = await patientsOfThisFile();

async function create(by: Client): Promise<string> {
  const { status, body } = await by.send("POST", "/patients", someBody());
  expect(status).toBe(201);
  return body.id;
}

/** A patient, with somebody for each level of access to it. */
async function shared() {
  const owner = service.as("user");
  const [writer, reader] = [service.as("user"), service.as("user")];
  const [writes, reads] = [service.as("user", { teams: ["surgery"] }), service.as("user", { teams: ["pharmacy"] })];
  const id = await create(owner);
  const sharing = {
    users: [writer.caller.id],
    teams: ["surgery"],
    readers: { users: [reader.caller.id], teams: ["pharmacy"] },
  };
  const { status, body } = await owner.send("PUT", `/patients/${id}/access`, sharing);
  expect({ status, body }).toEqual({ status: 200, body: { registeredBy: owner.caller.id, owner: owner.caller.id, ...sharing } });
  return { id, path: `/patients/${id}`, sharing, owner, writers: [writer, writes], readers: [reader, reads], stranger: service.as("user") };
}

test("readers get, list, search, export and read the history of a patient, and change nothing", async () => {
  const { id, path, readers, sharing } = await shared();
  for (const reader of readers) {
    const shows = async (query: string) => (await reader.send("GET", query)).text.includes(id);
    for (const query of [path, "/patients", `/patients?q=${id}`, "/patients?q=lovelace", "/patients:export", "/patients:export?format=csv"])
      expect([query, await shows(query)]).toEqual([query, true]);
    expect((await reader.send("GET", `${path}/history`)).body.items).toHaveLength(1);
    expect((await reader.send("GET", `${path}/access`)).body).toMatchObject(sharing);
    for (const [method, target, body] of [
      ["PUT", path, someBody()],
      ["PATCH", path, { name: "Changed" }],
      ["PATCH", path, {}],
      ["DELETE", path, undefined],
      ["POST", `${path}:restore`, undefined],
      ["PUT", `${path}/access`, { users: [reader.caller.id], teams: [] }],
    ] as const) {
      const refused = await reader.send(method, target, body);
      expect([method, target, refused.status]).toEqual([method, target, 403]);
      expect(refused.body.detail).toMatch(/owner/);
    }
  }
  expect((await admin.send("GET", path)).body).toMatchObject({ version: 1, name: "Ada Lovelace" });
  const { rows } = await service.db.pool.query(
    "select count(*)::int as n from audit_entries where action = 'access.refused' and subject = $1 and details->>'code' = 'permission_denied'",
    [id],
  );
  expect(rows[0].n).toBe(12);
});

test("those with whom a patient is shared for writing change it; only the owner and administrators delete or share it", async () => {
  const { path, writers, owner, stranger, sharing } = await shared();
  for (const [index, writer] of writers.entries()) {
    expect((await writer.send("PATCH", path, { name: `Name ${index}` })).status).toBe(200);
    expect((await writer.send("DELETE", path)).status).toBe(403);
    expect((await writer.send("PUT", `${path}/access`, { users: [], teams: [] })).status).toBe(403);
  }
  expect((await stranger.send("DELETE", path)).status).toBe(404);
  expect((await stranger.send("PUT", `${path}/access`, { users: [], teams: [] })).status).toBe(404);
  for (const who of [owner, admin]) {
    expect((await who.send("PUT", `${path}/access`, sharing)).status).toBe(200);
    expect((await who.send("DELETE", path)).status).toBe(204);
    expect((await writers[0]?.send("POST", `${path}:restore`))?.status).toBe(200);
  }
});

test("a patient is shared with exactly those who are named, and the trail says which access was given or taken", async () => {
  const { id, path, owner, writers, readers } = await shared();
  const [writer, reader] = [writers[0]?.caller.id ?? "", readers[0]?.caller.id ?? ""];
  // The writer becomes a reader. Who is named twice may write.
  const turned = { users: [reader], teams: [], readers: { users: [writer, reader], teams: [] } };
  const { body } = await owner.send("PUT", `${path}/access`, turned);
  expect(body).toMatchObject({ users: [reader], teams: [], readers: { users: [writer], teams: [] } });
  expect((await writers[0]?.send("PATCH", path, { name: "Changed" }))?.status).toBe(403);
  expect((await readers[0]?.send("PATCH", path, { name: "Changed" }))?.status).toBe(200);
  expect((await owner.send("PUT", `${path}/access`, { users: [], teams: [] })).body).toMatchObject({ readers: { users: [], teams: [] } });
  expect((await writers[0]?.send("GET", path))?.status).toBe(404);
  const wrong = { users: [], teams: [], readers: { users: ["not an id"], others: [] } };
  const refused = await owner.send("PUT", `${path}/access`, wrong);
  expect(refused.body.errors.map((error: { path: string }) => error.path).sort()).toEqual([
    "readers.others",
    "readers.teams",
    "readers.users.0",
  ]);
  const { rows } = await service.db.pool.query(
    "select details from audit_entries where subject = $1 and action = 'patient.shared' order by id offset 1",
    [id],
  );
  expect(rows.map((row) => row.details)).toEqual([
    { added: [`user:${reader}`], addedReaders: [`user:${writer}`], removed: ["team:pharmacy", "team:surgery"] },
    { added: [], addedReaders: [], removed: [`user:${writer}`, `user:${reader}`].sort() },
  ]);
});

test("an administrator names another owner; the one before loses the patient, and the record says who registered it", async () => {
  const { id, path, owner, writers, stranger, sharing } = await shared();
  const next = stranger;
  const named = { ...sharing, owner: next.caller.id };
  for (const who of [owner, writers[0] as Client]) expect((await who.send("PUT", `${path}/access`, named)).status).toBe(403);
  // Whoever sends back what they were given names the owner that the patient has.
  expect((await owner.send("PUT", `${path}/access`, { ...sharing, owner: owner.caller.id })).status).toBe(200);
  const answer = { registeredBy: owner.caller.id, owner: next.caller.id, ...sharing };
  expect(await admin.send("PUT", `${path}/access`, named)).toMatchObject({ status: 200, body: answer });
  expect((await next.send("GET", `${path}/access`)).body).toEqual(answer);
  expect((await owner.send("GET", path)).status).toBe(404);
  expect((await next.send("GET", "/patients")).body.items.map((item: { id: string }) => item.id)).toEqual([id]);
  expect((await next.send("DELETE", path)).status).toBe(204);
  const { rows } = await service.db.pool.query(
    "select details from audit_entries where subject = $1 and action = 'patient.owner_changed'",
    [id],
  );
  expect(rows).toEqual([{ details: { from: owner.caller.id, to: next.caller.id } }]);
});

test.each([
  ["before", "lock table patient_access in exclusive mode"],
  ["while", "select from patients for update"],
])("a former owner who shares a patient just %s another owner is named neither gets it back nor shares it", async (_when, lock) => {
  const { id, path, owner, stranger, sharing } = await shared();
  const next = stranger.caller.id;
  const sent = { users: [randomUUID()], teams: [], owner: owner.caller.id };
  const bodies = [sent, { ...sent, owner: undefined }];
  const waiting = async () =>
    (
      await service.db.pool.query(
        "select from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock' and query like '%with before as%'",
      )
    ).rowCount;
  const { sharings } = await service.db.kysely.transaction().execute(async (tx) => {
    await sql.raw(lock).execute(tx);
    const sharings = bodies.map((body) => owner.send("PUT", `${path}/access`, body));
    await expect.poll(waiting).toBe(2);
    await sql`update patients set registered_by = ${next} where id = ${id}`.execute(tx);
    return { sharings };
  });
  for (const { status } of await Promise.all(sharings)) expect(status).toBe(404);
  const { body } = await stranger.send("GET", `${path}/access`);
  expect(body).toEqual({ registeredBy: owner.caller.id, owner: next, ...sharing });
});

test("an administrator gives all records of somebody who leaves to somebody else, a part at a time, with an entry for each", async () => {
  const [leaving, next] = [service.as("user"), service.as("user")];
  const [from, to] = [leaving.caller.id, next.caller.id];
  const file = Array.from({ length: 1_100 }, () => `${JSON.stringify(someBody())}\n`).join("");
  await leaving.send("POST", "/patients:import", file, { "content-type": "application/x-ndjson" });
  const deleted = await create(leaving);
  await leaving.send("DELETE", `/patients/${deleted}`);
  const transfer = (who: Client, body: unknown) => who.send("POST", "/patients:transfer", body);
  for (const who of [leaving, service.as("billing")]) expect((await transfer(who, { from, to })).status).toBe(403);
  expect((await transfer(admin, { from, to: from })).body.errors).toMatchObject([{ path: "to" }]);
  const answers = [];
  for (let remaining = 1; remaining > 0; ) {
    const { status, body } = await transfer(admin, { from, to });
    expect(status).toBe(200);
    remaining = body.remaining;
    answers.push(body);
  }
  expect(answers).toEqual([
    { transferred: 500, remaining: 601 },
    { transferred: 500, remaining: 101 },
    { transferred: 101, remaining: 0 },
  ]);
  expect((await transfer(admin, { from, to })).body).toEqual({ transferred: 0, remaining: 0 });
  expect((await leaving.send("GET", "/patients")).body.items).toEqual([]);
  expect((await next.send("POST", `/patients/${deleted}:restore`)).status).toBe(200);
  const { rows } = await service.db.pool.query(
    "select count(distinct subject)::int as n from audit_entries where action = 'patient.owner_changed' and actor = $1 and details = $2",
    [admin.caller.id, { from, to }],
  );
  expect(rows[0].n).toBe(1_101);
});

test("one patient, a few and many are shown by the same rule, whatever the grants", { timeout: 60_000 }, async () => {
  const people = [...Array(3).keys()].map((index) => service.as("user", { teams: [`team-${index}`, "all"] }));
  const viewers = people.map((client) => viewerOf(client.caller));
  const principals = [...people.map((client) => `user:${client.caller.id}`), "team-0", "team-1", "team-2", "all", "nobody"].map((name) =>
    name.startsWith("user:") ? name : `team:${name}`,
  );
  const ids = await Promise.all([...Array(4).keys()].map(() => create(admin)));
  const grants = fc.uniqueArray(fc.record({ principal: fc.constantFrom(...principals), canWrite: fc.boolean() }), {
    selector: ({ principal }) => principal,
  });
  const owner = fc.constantFrom(...people.map((client) => client.caller.id), randomUUID());
  // Who opened the record in an emergency, and whether that is over.
  const emergencies = fc.dictionary(fc.constantFrom(...people.map((client) => client.caller.id)), fc.boolean());
  const patient = fc.record({ owner, grants, emergencies });
  const { kysely } = service.db;
  // The service itself only adds emergencies.
  await fc.assert(
    fc.asyncProperty(fc.tuple(patient, patient, patient, patient), async (patients) => {
      await sql`delete from patient_access where patient_id = any(${ids})`.execute(kysely);
      const opened = patients.flatMap(({ emergencies }, index) =>
        Object.entries(emergencies).map(([user, isOver]) => ({ patient: ids[index], user, until: isOver ? "-1 second" : "1 hour" })),
      );
      await query(database.migrationDatabaseUrl, async (owner) => {
        await owner.query("delete from emergency_accesses");
        await owner.query(
          `insert into emergency_accesses (patient_id, user_id, reason, request_id, expires_at)
           select patient, "user", 'test', 'test', now() + until from json_to_recordset($1) as o(patient uuid, "user" text, until interval)`,
          [JSON.stringify(opened)],
        );
      });
      for (const [index, { owner, grants }] of patients.entries()) {
        await sql`update patients set registered_by = ${owner} where id = ${ids[index]}`.execute(kysely);
        for (const { principal, canWrite } of grants)
          await sql`insert into patient_access (patient_id, principal, granted_by, can_write)
            values (${ids[index]}, ${principal}, 'test', ${canWrite})`.execute(kysely);
      }
      for (const viewer of viewers) {
        const wanted = patients.map(({ owner, grants, emergencies }) => {
          if (owner === viewer.id) return "manage";
          const mine = grants.filter(({ principal }) => viewer.principals.includes(principal));
          return mine.some(({ canWrite }) => canWrite) ? "write" : mine.length > 0 || emergencies[viewer.id] === false ? "read" : null;
        });
        const { estimate, few, many } = accessConditions(viewer);
        const { rows } = await sql<{ id: string; level: string; estimate: boolean; seen: boolean; few: boolean; many: boolean }>`
          select p.id, ${sql.raw(accessLevel("p", "v"))} as level, ${sql.raw(visible("p", "v"))} as seen, ${estimate} as estimate, ${few} as few,
            ${many} as many
          from patients p, (select ${viewer.id}::text as actor, ${viewer.seesAll}::boolean as sees_all, ${viewer.principals}::text[] as principals) v
          where p.id = any(${ids})`.execute(kysely);
        const found = new Map(rows.map(({ id, ...row }) => [id, row]));
        expect(ids.map((id) => found.get(id))).toEqual(
          wanted.map((level) => ({
            level,
            ...Object.fromEntries(["seen", "estimate", "few", "many"].map((name) => [name, level !== null])),
          })),
        );
      }
    }),
    { numRuns: 100 },
  );
});

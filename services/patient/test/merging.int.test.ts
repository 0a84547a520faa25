/** Two records of one person: merged, and on their own again. */
import { randomUUID } from "node:crypto";
import { expect, test } from "vitest";
import { type Client, patientsOfThisFile, someBody } from "./testing.ts";

const { service, admin } = await patientsOfThisFile({ settings: { emailUnique: true } });
const merger = (id?: string) => service.as(["patient:read", "patient:write", "patient:merge"], id === undefined ? {} : { id });

async function create(fields: Record<string, unknown> = {}, by: Client = admin) {
  const { status, body } = await by.send("POST", "/patients?duplicates=allow", someBody(fields));
  expect(status).toBe(201);
  return body;
}
const read = async (id: string, by: Client = admin) => by.send("GET", `/patients/${id}`);

async function merge(
  survivor: { id: string; version: number },
  duplicate: { id: string; version: number },
  more: object = {},
  by: Client = admin,
) {
  const body = { duplicateId: duplicate.id, duplicateVersion: duplicate.version, ...more };
  return by.send("POST", `/patients/${survivor.id}:merge`, body, { "if-match": `"${survivor.version}"` });
}
const unmerge = (id: string, duplicateId: string, by: Client = admin) => by.send("POST", `/patients/${id}:unmerge`, { duplicateId });

async function rows(text: string, values: unknown[] = []) {
  return (await service.db.pool.query(text, values)).rows;
}

test("the survivor has what both have, and the duplicate's id leads to it", async () => {
  const passport = { system: "passport-de", value: randomUUID() };
  const one = await create({ name: "Ada Lovelace", phoneNumber: "+12175550123", sex: "female" });
  const other = await create({ name: "Ada Quillonbrack", phoneNumber: "+12175550144", identifiers: [passport], maritalStatus: "married" });
  const merged = await merge(one, other, { keep: { phoneNumber: "that" } });
  expect(merged.status, merged.text).toBe(200);
  expect(merged.body).toMatchObject({
    dryRun: false,
    patient: {
      ...{ id: one.id, version: 2, name: "Ada Lovelace", email: one.email, phoneNumber: "+12175550144", maritalStatus: "married" },
      names: [{ text: "Ada Lovelace" }, { text: "Ada Quillonbrack" }],
      emails: [{ value: one.email }, { value: other.email }],
      phones: [{ value: "+12175550144" }, { value: "+12175550123" }],
    },
    conflicts: [
      { field: "name", this: "Ada Lovelace", that: "Ada Quillonbrack", kept: "this" },
      { field: "phoneNumber", kept: "that" },
      { field: "email", kept: "this" },
    ],
  });
  expect(merged.headers.get("etag")).toBe('"2"');
  for (const id of [other.id, other.id.toUpperCase()]) {
    const found = await read(id);
    expect([found.status, found.headers.get("etag"), found.headers.get("content-location")]).toEqual([200, '"2"', `/patients/${one.id}`]);
    expect(found.body).toEqual({ ...(await read(one.id)).body, mergedFrom: other.id });
  }
  const mrn = other.identifiers.find(({ system }: { system: string }) => system === "mrn").value;
  for (const query of [`identifier=mrn|${mrn}`, `identifier=passport-de|${passport.value}`, "q=quillonbrack", `q=${other.email}`])
    expect((await admin.send("GET", `/patients?${query}`)).body.items.map(({ id }: { id: string }) => id)).toEqual([one.id]);
  const pairs = await rows("select state from duplicate_pairs where $1 in (first_id, second_id)", [one.id]);
  expect(pairs).toEqual([{ state: "merged" }]);
});

test("no version is overwritten, and the history stays readable at both ids", async () => {
  const [one, other] = [await create(), await create({ name: "Ada Byron" })];
  const patched = (await admin.send("PATCH", `/patients/${other.id}`, { name: "Ada King" })).body;
  await merge(one, patched);
  const actions = async (id: string) =>
    (await admin.send("GET", `/patients/${id}/history`)).body.items.map(({ version, action }: { version: number; action: string }) => [
      version,
      action,
    ]);
  expect(await actions(one.id)).toEqual([[2, "merged"], [1, "registered"]]); // biome-ignore format: a table
  expect(await actions(other.id)).toEqual([[2, "updated"], [1, "registered"]]); // biome-ignore format: a table
  await unmerge(one.id, other.id);
  expect(await actions(one.id)).toEqual([[3, "unmerged"], [2, "merged"], [1, "registered"]]); // biome-ignore format: a table
  expect(await actions(other.id)).toEqual([[2, "updated"], [1, "registered"]]); // biome-ignore format: a table
});

test("a write to a merged id is 409 MERGED, and names the survivor", async () => {
  const [one, other, third] = [await create(), await create(), await create()];
  await merge(one, other);
  const path = `/patients/${other.id}`;
  for (const [method, target, body] of [
    ["PUT", path, someBody()],
    ["PATCH", path, { name: "Changed" }],
    ["PATCH", path, {}],
    ["DELETE", path, undefined],
    ["POST", `${path}:restore`, undefined],
    ["PUT", `${path}/access`, { users: [], teams: [] }],
    ["POST", `${path}:unmerge`, { duplicateId: third.id }],
  ] as const) {
    const { status, body: problem } = await admin.send(method, target, body);
    expect([method, target, status, problem.reason, problem.metadata]).toEqual([method, target, 409, "MERGED", { survivorId: one.id }]);
    expect(problem.detail).toContain(`/patients/${one.id}`);
  }
  expect((await merge(other, third)).body).toMatchObject({ reason: "MERGED", metadata: { survivorId: one.id } });
  expect((await merge(third, other)).body).toMatchObject({ reason: "MERGED", metadata: { survivorId: one.id } });
  expect((await merge({ ...one, version: 2 }, other)).body).toMatchObject({ reason: "MERGED", metadata: { survivorId: one.id } });
});

test("a merge needs the versions that the caller has seen, two records, and write access to both", async () => {
  const owner = merger();
  const [one, other, foreign] = [await create({}, owner), await create({}, owner), await create()];
  expect((await merge({ ...one, version: 2 }, other)).status).toBe(412);
  expect((await merge(one, { ...other, version: 2 })).status).toBe(412);
  expect((await merge(one, one)).status).toBe(400);
  expect((await merge(one, { id: randomUUID(), version: 1 })).status).toBe(404);
  const body = { duplicateId: other.id, duplicateVersion: 1 };
  expect((await admin.send("POST", `/patients/${one.id}:merge`, body)).status).toBe(428);
  expect((await merge(one, other, {}, service.as("user", { id: owner.caller.id }))).status).toBe(403);
  expect((await merge(one, foreign, {}, owner)).status).toBe(404);
  await admin.send("PUT", `/patients/${foreign.id}/access`, { users: [], teams: [], readers: { users: [owner.caller.id], teams: [] } });
  expect((await merge(one, foreign, {}, owner)).status).toBe(403);
  await admin.send("DELETE", `/patients/${foreign.id}`);
  expect((await merge(one, foreign)).status).toBe(404);
  expect((await merge(one, other, {}, owner)).status).toBe(200);
});

test("a dry run shows the record and the grants, leaves entries of both reads, and changes nothing", async () => {
  const [one, other] = [await create(), await create({ name: "Ada Byron" })];
  await admin.send("PUT", `/patients/${other.id}/access`, { users: ["nurse"], teams: [], readers: { users: [], teams: ["pharmacy"] } });
  const requestId = randomUUID();
  const body = { duplicateId: other.id, duplicateVersion: 1, dryRun: true };
  const shown = await admin.send("POST", `/patients/${one.id}:merge`, body, { "if-match": "*", "x-request-id": requestId });
  expect(shown.body).toMatchObject({
    dryRun: true,
    patient: { id: one.id, version: 2, names: [{}, { text: "Ada Byron" }] },
    access: { users: ["nurse"], teams: [], readers: { users: [], teams: ["pharmacy"] } },
    added: { users: ["nurse"], teams: [], readers: { users: [], teams: ["pharmacy"] } },
  });
  const entries = await rows("select action, subject from audit_entries where request_id = $1 and action = 'patient.read' order by id", [
    requestId,
  ]);
  expect(entries.map(({ subject }) => subject)).toEqual([one.id, other.id]);
  expect((await read(one.id)).body).toEqual(one);
  expect((await read(other.id)).body).toEqual(other);
  expect((await admin.send("GET", `/patients/${one.id}/access`)).body).toMatchObject({ users: [] });
});

test("grants are united and audited, and whoever could see either record sees the survivor", async () => {
  const team = randomUUID();
  const [doctor, nurse] = [service.as("user"), service.as("user")];
  const pharmacy = service.as("user", { teams: [team] });
  const [one, other] = [await create({}, doctor), await create({}, nurse)];
  await doctor.send("PUT", `/patients/${one.id}/access`, { users: [], teams: [], readers: { users: [], teams: [team] } });
  await nurse.send("PUT", `/patients/${other.id}/access`, { users: [], teams: [team] });
  const { body } = await merge(one, other);
  expect(body.access).toMatchObject({ owner: doctor.caller.id, users: [nurse.caller.id], teams: [team], readers: { teams: [] } });
  expect(body.added).toEqual({ users: [nurse.caller.id], teams: [team], readers: { users: [], teams: [] } });
  const [shared] = await rows(
    "select details from audit_entries where action = 'patient.shared' and subject = $1 order by id desc limit 1",
    [one.id],
  );
  expect(shared.details).toEqual({ added: [`team:${team}`, `user:${nurse.caller.id}`], addedReaders: [], removed: [] });
  for (const who of [doctor, nurse, pharmacy]) {
    expect((await read(other.id, who)).body).toMatchObject({ id: one.id });
    expect((await who.send("GET", `/patients/${other.id}/history`)).status).toBe(200);
    expect((await who.send("GET", `/patients/${other.id}/access`)).body).toEqual(body.access);
  }
  // Who loses the survivor loses the merged record too, in lists as well.
  await doctor.send("PUT", `/patients/${one.id}/access`, { users: [], teams: [] });
  for (const who of [nurse, pharmacy, service.as("user")]) {
    for (const path of ["", "/history", "/access"]) expect((await who.send("GET", `/patients/${other.id}${path}`)).status).toBe(404);
    expect((await who.send("PATCH", `/patients/${other.id}`, {})).status).toBe(404);
    expect((await who.send("GET", "/patients?deleted=include&updatedAfter=0001-01-01T00:00:00Z")).body.items).toEqual([]);
  }
});

test("lists pass a merged record, and whoever follows changes learns of a merge and of its end", async () => {
  const [one, other] = [await create(), await create()];
  const follow = async (updatedAfter: string) => {
    const { items, until } = (await admin.send("GET", `/patients?deleted=include&limit=200&updatedAfter=${updatedAfter}`)).body;
    const mine = items.filter(({ id }: { id: string }) => id === one.id || id === other.id);
    return { until, items: mine as { id: string; mergedInto?: string; deletedAt?: string }[] };
  };
  const { until } = await follow("0001-01-01T00:00:00Z");
  await merge(one, other);
  const after = await follow(until);
  expect(after.items).toHaveLength(2);
  expect(after.items.find(({ id }) => id === other.id)).toMatchObject({ mergedInto: one.id, deletedAt: expect.any(String) });
  for (const query of ["", "?deleted=true"]) {
    const { items } = (await admin.send("GET", `/patients${query}`)).body;
    expect(items.map(({ id }: { id: string }) => id)).not.toContain(other.id);
  }
  expect((await admin.send("GET", "/patients:export?format=csv&deleted=include")).text).toContain(`${one.id},`);
  await unmerge(one.id, other.id);
  const back = await follow(after.until);
  expect(back.items.find(({ id }) => id === other.id)).not.toHaveProperty("mergedInto");
  expect(back.items.find(({ id }) => id === other.id)).not.toHaveProperty("deletedAt");
});

test("unmerging gives both records as they were, their grants too, and later edits stay with the survivor", async () => {
  const [doctor, nurse] = [service.as("user"), service.as("user")];
  const [one, other] = [await create({ phoneNumber: "+12175550123" }, doctor), await create({ name: "Ada Byron" }, nurse)];
  await nurse.send("PUT", `/patients/${other.id}/access`, { users: ["x"], teams: [], readers: { users: ["y"], teams: [] } });
  await merge(one, other);
  expect((await admin.send("PATCH", `/patients/${one.id}`, { generalPractitioner: "Dr. King" })).status).toBe(200);
  const access = (await doctor.send("GET", `/patients/${one.id}/access`)).body;
  await doctor.send("PUT", `/patients/${one.id}/access`, { ...access, registeredBy: undefined, owner: undefined, teams: ["surgery"] });
  const undone = await unmerge(one.id, other.id);
  expect(undone.status, undone.text).toBe(200);
  expect(undone.body.changedSince).toEqual([{ field: "generalPractitioner", to: "Dr. King" }]);
  const same = ({ version: _, updatedAt: __, ...body }: Record<string, unknown>) => body;
  expect(same((await read(one.id)).body)).toEqual({ ...same(one), generalPractitioner: "Dr. King" });
  expect({ ...(await read(other.id)).body, updatedAt: other.updatedAt }).toEqual(other);
  expect((await doctor.send("GET", `/patients/${one.id}/access`)).body).toMatchObject({
    owner: doctor.caller.id,
    users: [],
    teams: ["surgery"],
  });
  expect((await nurse.send("GET", `/patients/${other.id}/access`)).body).toMatchObject({
    owner: nurse.caller.id,
    users: ["x"],
    readers: { users: ["y"] },
  });
  expect((await read(one.id, nurse)).status).toBe(404);
  expect((await read(other.id, doctor)).status).toBe(404);
  expect(await rows("select state from duplicate_pairs where $1 in (first_id, second_id)", [one.id])).toEqual([{ state: "not_the_same" }]);
  expect((await unmerge(one.id, other.id)).body).toMatchObject({ status: 409, reason: "NOT_MERGED" });
});

test("an unmerge that cannot be is refused with the reason, and changes nothing", async () => {
  const passport = { system: "passport-de", value: randomUUID() };
  const [one, other] = [await create(), await create({ identifiers: [passport] })];
  const merged = (await merge(one, other)).body.patient;
  const third = await create({ email: other.email });
  expect((await unmerge(one.id, other.id)).body).toMatchObject({ status: 409, reason: "EMAIL_TAKEN" });
  await admin.send("PATCH", `/patients/${third.id}`, { email: `${randomUUID()}@example.com` });
  const identifiers = merged.identifiers.filter(({ system }: { system: string }) => system !== passport.system);
  expect((await admin.send("PATCH", `/patients/${one.id}`, { identifiers })).status).toBe(200);
  expect((await admin.send("PATCH", `/patients/${third.id}`, { identifiers: [passport] })).status).toBe(200);
  const refused = await unmerge(one.id, other.id);
  expect(refused.body).toMatchObject({ status: 409, reason: "IDENTIFIER_TAKEN", errors: [{ path: "identifiers.passport-de" }] });
  expect((await read(other.id)).body).toMatchObject({ id: one.id, version: 3 });
  await admin.send("PATCH", `/patients/${third.id}`, { identifiers: [] });
  expect((await unmerge(one.id, other.id)).status).toBe(200);
});

test("chains resolve in one step, and are undone from their end", async () => {
  const [a, b, c] = [await create(), await create(), await create()];
  await merge(b, c);
  await merge(a, { ...b, version: 2 });
  const led = await rows("select id, merged_into from patients where id = any($1) order by id", [[a.id, b.id, c.id]]);
  expect(led.map(({ merged_into }) => merged_into)).toEqual([null, a.id, a.id]);
  expect((await read(c.id)).body).toMatchObject({ id: a.id, mergedFrom: c.id });
  expect((await unmerge(a.id, c.id)).body).toMatchObject({ status: 409, reason: "MERGED_BEFORE", metadata: { mergedInto: b.id } });
  expect((await unmerge(a.id, b.id)).status).toBe(200);
  expect((await read(c.id)).body).toMatchObject({ id: b.id, mergedFrom: c.id });
  expect((await unmerge(b.id, c.id)).status).toBe(200);
  for (const { id } of [a, b, c]) expect((await read(id)).body).toMatchObject({ id });
  const links = await rows("select patient_id, survivor_id from patient_links where patient_id = any($1) order by patient_id", [
    [b.id, c.id],
  ]);
  expect(links.map(({ survivor_id }) => survivor_id)).toEqual([null, null]);
});

test("a survivor that is deleted takes its merged records with it, and brings them back", async () => {
  const [one, other] = [await create(), await create()];
  await merge(one, other);
  await admin.send("DELETE", `/patients/${one.id}`);
  expect((await read(other.id)).status).toBe(404);
  expect((await unmerge(one.id, other.id)).status).toBe(404);
  await admin.send("POST", `/patients/${one.id}:restore`);
  expect((await read(other.id)).body).toMatchObject({ id: one.id });
});

test("64 parallel merges of a handful of records end in one survivor, without a cycle", { timeout: 120_000 }, async () => {
  const all = await Promise.all(Array.from({ length: 6 }, () => create()));
  const ids = all.map(({ id }) => id);
  const living = async () =>
    (await rows("select id, version from patients where id = any($1) and merged_into is null", [ids])) as { id: string; version: number }[];
  const statuses = new Map<number, number>();
  for (let rounds = 0; rounds < 20 && (await living()).length > 1; rounds++) {
    const left = (await living()).map(({ id, version }) => ({ id, version: Number(version) }));
    const pick = () => left[Math.floor(Math.random() * left.length)] as { id: string; version: number };
    const answers = await Promise.all(Array.from({ length: 64 }, () => merge(pick(), pick())));
    for (const { status } of answers) statuses.set(status, (statuses.get(status) ?? 0) + 1);
  }
  process.stdout.write(`parallel merges: answers ${JSON.stringify(Object.fromEntries(statuses))}\n`);
  expect([...statuses.keys()].filter((status) => ![200, 400, 409, 412].includes(status))).toEqual([]);
  const [survivor, ...others] = await living();
  expect(others).toEqual([]);
  const led = await rows("select distinct merged_into from patients where id = any($1) and merged_into is not null", [ids]);
  expect(led).toEqual([{ merged_into: survivor?.id }]);
  for (const id of ids) expect((await read(id)).body.id).toBe(survivor?.id);
  expect((await read(ids[0] ?? "")).body.identifiers).toHaveLength(6);
});

test("merges, unmerges, edits, deletes and sharing at once leave no circle, and each merged record leads to a living root", {
  timeout: 120_000,
}, async () => {
  const ids = (await Promise.all(Array.from({ length: 6 }, () => create()))).map(({ id }) => id as string);
  const any = () => ids[Math.floor(Math.random() * ids.length)] as string;
  const statuses = new Map<string, number>();
  const acts: Record<string, () => Promise<{ status: number; text: string }>> = {
    async merge() {
      const other = await read(any());
      const body = { duplicateId: other.body.id ?? any(), duplicateVersion: other.body.version ?? 1 };
      return admin.send("POST", `/patients/${any()}:merge`, body, { "if-match": "*" });
    },
    async unmerge() {
      const id = any();
      return unmerge((await read(id)).body.id ?? any(), id);
    },
    edit: () => admin.send("PATCH", `/patients/${any()}`, { generalPractitioner: `Dr. ${randomUUID()}` }),
    share: () => admin.send("PUT", `/patients/${any()}/access`, { users: [randomUUID()], teams: [] }),
    delete: () => admin.send("DELETE", `/patients/${any()}`),
    restore: () => admin.send("POST", `/patients/${any()}:restore`),
    transfer: () => admin.send("POST", "/patients:transfer", { from: admin.caller.id, to: randomUUID() }),
  };
  const names = Object.keys(acts).flatMap((name) =>
    name === "merge" || name === "unmerge" || name === "restore" ? Array(6).fill(name) : name,
  );
  for (let round = 0; round < 20; round++)
    await Promise.all(
      Array.from({ length: 32 }, async () => {
        const name = names[Math.floor(Math.random() * names.length)] ?? "";
        const { status, text } = (await acts[name]?.()) ?? { status: 0, text: "" };
        statuses.set(`${name} ${status}`, (statuses.get(`${name} ${status}`) ?? 0) + 1);
        expect(status, `${name}: ${text}`).toBeLessThan(500);
      }),
    );
  process.stdout.write(`everything at once: ${JSON.stringify(Object.fromEntries([...statuses].sort()))}\n`);
  const wrong = await rows(
    `with recursive chain as (
      select duplicate_id as id, survivor_id as root, 1 as length from patient_merges where undone_version is null and duplicate_id = any($1)
      union all
      select c.id, m.survivor_id, length + 1 from chain c join patient_merges m on m.duplicate_id = c.root and m.undone_version is null
      where length < 10
    ), roots as (
      select distinct on (id) id, root from chain order by id, length desc
    )
    select p.id from patients p left join roots using (id) left join patients s on s.id = p.merged_into
    where p.id = any($1) and (p.merged_into is distinct from root or s.merged_into is not null or s.registered_by <> p.registered_by)`,
    [ids],
  );
  expect(wrong).toEqual([]);
  const grants = await rows(
    `select p.id from patients p where p.id = any($1) and p.merged_into is not null and
      array(select principal from patient_access where patient_id = p.id order by 1)
      <> array(select principal from patient_access where patient_id = p.merged_into order by 1)`,
    [ids],
  );
  expect(grants).toEqual([]);
});

test("an import finds the survivor by an identifier of either, and names it for a merged id", async () => {
  const [one, other] = [await create(), await create()];
  await merge(one, other);
  const [{ system, value }] = other.identifiers;
  const lines = [
    { identifiers: [{ system, value }], generalPractitioner: "Dr. King" },
    { id: other.id, sex: "female" },
  ];
  const file = lines.map((line) => JSON.stringify(line)).join("\n");
  const { body } = await admin.send("POST", "/patients:import?mode=update", file, { "content-type": "application/x-ndjson" });
  expect(body).toMatchObject({
    updated: 1,
    failed: 1,
    errors: [{ line: 2, errors: [{ path: "id", message: expect.stringContaining(one.id) }] }],
  });
  expect((await read(one.id)).body).toMatchObject({ generalPractitioner: "Dr. King" });
});

test("the version before cannot bring a merged record back", async () => {
  const [one, other] = [await create(), await create()];
  await merge(one, other);
  const restore = rows("update patients set deleted_at = null, version = version + 1 where id = $1", [other.id]);
  await expect(restore).rejects.toThrow(/patients_merged_are_not_living/);
});

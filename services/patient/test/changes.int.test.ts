/** Changing, deleting, restoring and sharing patients, and what the history says of it, over a real Postgres. */
import { randomUUID } from "node:crypto";
import { fromBinary } from "@bufbuild/protobuf";
import { PatientEventSchema } from "@pm/proto/patient/v1/events";
import { expect, test } from "vitest";
import { patientsOfThisFile, someBody } from "./testing.ts";

const { service, admin } = await patientsOfThisFile();

const create = async (fields: Record<string, unknown> = {}, by = admin) => {
  const { status, body } = await by.send("POST", "/patients?duplicates=allow", someBody(fields));
  expect(status).toBe(201);
  return body;
};

test("PUT replaces the record, keeps the day of registration, and takes back what GET gave", async () => {
  const patient = await create({ phoneNumber: "+442071234567", sex: "female", registeredDate: "2020-02-29" });
  const replaced = await admin.send("PUT", `/patients/${patient.id}`, someBody({ name: "Ada King" }), { "if-match": '"1"' });
  expect([replaced.status, replaced.headers.get("etag")]).toEqual([200, '"2"']);
  expect(replaced.body).toMatchObject({ id: patient.id, name: "Ada King", version: 2, registeredDate: "2020-02-29" });
  expect(replaced.body).not.toHaveProperty("phoneNumber");
  expect(replaced.body).not.toHaveProperty("sex");
  const same = await admin.send("PUT", `/patients/${patient.id}`, replaced.body);
  expect(same.body).toEqual(replaced.body);
});

test("PATCH changes what it names, removes what is null, and nothing else", async () => {
  const patient = await create({
    name: undefined,
    firstName: "Ada",
    lastName: "Byron",
    phoneNumber: "+442071234567",
    address: { street: "1 Main St", city: "Springfield" },
  });
  const patch = (body: unknown) => admin.send("PATCH", `/patients/${patient.id}`, body, { "content-type": "application/merge-patch+json" });
  expect((await patch({ lastName: "Lovelace", phoneNumber: null })).body).toMatchObject({
    name: "Ada Lovelace",
    firstName: "Ada",
    lastName: "Lovelace",
    email: patient.email,
  });
  expect((await patch({ address: { city: "Shelbyville" } })).body).toMatchObject({
    version: 3,
    address: { text: "1 Main St, Shelbyville", street: "1 Main St", city: "Shelbyville" },
  });
  const whole = (await patch({ name: "Ada", address: "Somewhere else" })).body;
  expect(whole).toMatchObject({ version: 4, name: "Ada", address: { text: "Somewhere else" } });
  expect(Object.keys(whole.address)).toEqual(["text"]);
  expect(whole).not.toHaveProperty("firstName");
  expect(whole).not.toHaveProperty("phoneNumber");
  const { status, body } = await patch({ email: null, dateOfBirth: "2999-01-01", nme: "x" });
  expect(status).toBe(400);
  expect(body.errors.map((error: { path: string }) => error.path).sort()).toEqual(["dateOfBirth", "email", "nme"]);
});

test("a change that changes nothing makes no version, no event and no entry", async () => {
  const patient = await create();
  const same = await admin.send("PATCH", `/patients/${patient.id}`, { name: patient.name });
  expect([same.status, same.body.version]).toEqual([200, 1]);
  const { rows } = await service.db.pool.query("select count(*)::int as n from outbox where key = $1", [patient.id]);
  expect(rows[0].n).toBe(1);
});

test("a lost race is 412 with If-Match, and merged without", async () => {
  const patient = await create();
  const path = `/patients/${patient.id}`;
  await admin.send("PATCH", path, { name: "First" }, { "if-match": '"1"' });
  for (const [method, body] of [
    ["PUT", someBody()],
    ["PATCH", { name: "Second" }],
    ["DELETE", undefined],
  ] as const) {
    const lost = await admin.send(method, path, body, { "if-match": '"1"' });
    expect([lost.status, lost.body.code]).toEqual([412, "aborted"]);
  }
  const fields = [{ name: "Third" }, { sex: "other" }, { phoneNumber: "+442071234567" }];
  const answers = await Promise.all(fields.map((field) => admin.send("PATCH", path, field)));
  expect(answers.map((answer) => answer.status)).toEqual([200, 200, 200]);
  expect((await admin.send("GET", path)).body).toMatchObject({ version: 5, name: "Third", sex: "other", phoneNumber: "+442071234567" });
  const both = await Promise.all(["A", "B"].map((name) => admin.send("PATCH", path, { name }, { "if-match": '"5"' })));
  expect(both.map((answer) => answer.status).sort()).toEqual([200, 412]);
});

test("a weak tag is compared by its value, and If-Match of another form is refused before the patient is looked for", async () => {
  const patient = await create();
  const path = `/patients/${patient.id}`;
  const weak = (tag: string, name: string) => admin.send("PATCH", path, { name }, { "if-match": tag });
  expect((await weak('W/"1"', "Weak")).body).toMatchObject({ version: 2, name: "Weak" });
  expect((await weak('"7", W/"2"', "Weaker")).body).toMatchObject({ version: 3, name: "Weaker" });
  expect((await weak('W/"1"', "Late")).status).toBe(412);
  for (const [method, target, body] of [
    ["PUT", path, someBody()],
    ["PATCH", path, { name: "Malformed" }],
    ["DELETE", path, undefined],
    ["POST", `${path}:restore`, undefined],
    ["DELETE", "/patients/nobody", undefined],
  ] as const)
    for (const tag of ["3", 'W/"3', '"3" "4"', 'w/"3"', '*, "3"']) {
      const refused = await admin.send(method, target, body, { "if-match": tag });
      expect([refused.status, refused.body.errors[0].path], tag).toEqual([400, "if-match"]);
      expect(refused.body.detail).toMatch(/^if-match: must be an ETag in its quotes \("4"\)/);
    }
  expect((await admin.send("GET", path)).body).toMatchObject({ version: 3, name: "Weaker" });
});

test("a deleted patient is gone, frees its e-mail, and comes back as it was", async () => {
  const patient = await create();
  const path = `/patients/${patient.id}`;
  expect((await admin.send("DELETE", path)).status).toBe(204);
  for (const [method, body] of [
    ["GET", undefined],
    ["PUT", someBody()],
    ["PATCH", { name: "x" }],
    ["DELETE", undefined],
  ] as const)
    expect((await admin.send(method, path, body)).status).toBe(404);
  const heir = await create({ email: patient.email });
  expect((await admin.send("POST", `${path}:restore`)).status).toBe(409);
  await admin.send("DELETE", `/patients/${heir.id}`);
  const restored = await admin.send("POST", `${path}:restore`);
  expect([restored.status, restored.body]).toEqual([200, { ...patient, version: 3, updatedAt: restored.body.updatedAt }]);
  expect((await admin.send("POST", `${path}:restore`)).body.version).toBe(3);
  expect((await admin.send("GET", path)).status).toBe(200);
});

test("the history has every version with who, when and each field's change", async () => {
  const [owner, colleague] = [service.as("user"), service.as("admin")];
  const patient = await create({ sex: "female" }, owner);
  const path = `/patients/${patient.id}`;
  await colleague.send("PATCH", path, { name: "Ada King", sex: null });
  await owner.send("DELETE", path);
  const { status, body } = await owner.send("GET", `${path}/history`);
  expect(status).toBe(200);
  expect(body.items).toMatchObject([
    { version: 3, action: "deleted", by: owner.caller.id, changes: [] },
    {
      version: 2,
      action: "updated",
      by: colleague.caller.id,
      changes: [
        { field: "name", from: "Ada Lovelace", to: "Ada King" },
        { field: "sex", from: "female" },
      ],
    },
    { version: 1, action: "registered", by: owner.caller.id, at: patient.createdAt },
  ]);
  const first = await owner.send("GET", `${path}/history?limit=2`);
  const second = await owner.send("GET", `${path}/history?limit=2&cursor=${first.body.nextCursor}`);
  expect((await owner.send("GET", `${path}/history?limit=1&before=2`)).body.items).toMatchObject([{ version: 1 }]);
  expect([...first.body.items, ...second.body.items]).toEqual(body.items);
  expect((await service.as("user").send("GET", `${path}/history`)).status).toBe(404);
});

test("every change is an event, in order per patient, and an audit entry with the digest of the version", async () => {
  const patient = await create();
  const path = `/patients/${patient.id}`;
  await admin.send("PATCH", path, { sex: "other", name: "New Name" });
  await admin.send("DELETE", path);
  await admin.send("POST", `${path}:restore`, { registeredDate: "2019-12-24" });
  const { rows: outbox } = await service.db.pool.query("select type, payload from outbox where key = $1 order by id", [patient.id]);
  const events = outbox.map((row) => fromBinary(PatientEventSchema, row.payload));
  expect(events.map((event) => [event.version, event.event.case])).toEqual([
    [1n, "registered"],
    [2n, "updated"],
    [3n, "deleted"],
    [4n, "restored"],
  ]);
  expect(events[1]?.event.value).toMatchObject({ changedFields: ["name", "sex"], demographics: { sex: "other" } });
  expect(events[3]?.event.value).toMatchObject({ registeredDate: "2019-12-24", demographics: { sex: "other" } });
  const { rows: proven } = await service.db.pool.query(
    `select v.version from patient_versions v join audit_entries a on a.subject = v.patient_id::text and (a.details->>'version')::bigint = v.version
     where v.patient_id = $1 and a.details->>'sha256' = encode(sha256(v.salt || convert_to(v.record::text, 'UTF8')), 'hex') order by 1`,
    [patient.id],
  );
  expect(proven.map((row) => Number(row.version))).toEqual([1, 2, 3, 4]);
});

test("a patient is shared with users and teams, and unshared again", async () => {
  const owner = service.as("user");
  const [friend, member, stranger] = [service.as("user"), service.as("user", { teams: ["cardiology"] }), service.as("user")];
  const patient = await create({}, owner);
  const path = `/patients/${patient.id}`;
  const seen = async () => Promise.all([owner, friend, member, stranger].map(async (who) => (await who.send("GET", path)).status));
  expect(await seen()).toEqual([200, 404, 404, 404]);
  const shared = await owner.send("PUT", `${path}/access`, { users: [friend.caller.id], teams: ["cardiology"] });
  const grants = { users: [friend.caller.id], teams: ["cardiology"], readers: { users: [], teams: [] } };
  expect(shared.body).toEqual({ registeredBy: owner.caller.id, owner: owner.caller.id, ...grants });
  expect((await member.send("GET", `${path}/access`)).body).toEqual(shared.body);
  expect(await seen()).toEqual([200, 200, 200, 404]);
  expect((await stranger.send("PUT", `${path}/access`, { users: [stranger.caller.id], teams: [] })).status).toBe(404);
  await owner.send("PUT", `${path}/access`, { users: [], teams: [] });
  expect(await seen()).toEqual([200, 404, 404, 404]);
  expect(
    (await owner.send("PUT", `${path}/access`, { users: ["not an id"] })).body.errors.map((error: { path: string }) => error.path).sort(),
  ).toEqual(["teams", "users[0]"]);
  const { rows } = await service.db.pool.query(
    "select details from audit_entries where subject = $1 and action = 'patient.shared' order by id",
    [patient.id],
  );
  expect(rows[0].details.added.sort()).toEqual(["team:cardiology", `user:${friend.caller.id}`].sort());
});

test("what is not there, or not an id, is 404 for every operation", async () => {
  for (const id of [randomUUID(), "nonsense", "%00", "1"])
    for (const [method, path, body] of [
      ["GET", `/patients/${id}`, undefined],
      ["PUT", `/patients/${id}`, someBody()],
      ["PATCH", `/patients/${id}`, {}],
      ["DELETE", `/patients/${id}`, undefined],
      ["POST", `/patients/${id}:restore`, undefined],
      ["GET", `/patients/${id}/history`, undefined],
      ["GET", `/patients/${id}/versions/1`, undefined],
      ["GET", `/patients/${id}/access`, undefined],
      ["PUT", `/patients/${id}/access`, { users: [], teams: [] }],
    ] as const)
      expect([method, path, (await admin.send(method, path, body)).status]).toEqual([method, path, 404]);
});

/** Imports that change patients, over a real Postgres. */
import { randomUUID } from "node:crypto";
import { expect, test } from "vitest";
import { type Client, patientsOfThisFile, someBody } from "./testing.ts";

const { service, admin } = await patientsOfThisFile();

const csv = { "content-type": "text/csv" };
const ndjson = { "content-type": "application/x-ndjson" };
const send = async (client: Client, file: string, query: string, headers: Record<string, string> = csv) =>
  (await client.send("POST", `/patients:import?${query}`, file, headers)).body;
const read = async (id: string) => (await admin.send("GET", `/patients/${id}`)).body;
const audited = async (client: Client, subject: string) =>
  (
    await service.db.pool.query("select action from audit_entries where actor = $1 and subject = $2 order by id", [
      client.caller.id,
      subject,
    ])
  ).rows.map(({ action }) => action);

async function register(client: Client, fields: Record<string, unknown> = {}) {
  const { status, body } = await client.send("POST", "/patients", someBody(fields));
  expect(status).toBe(201);
  return body;
}

const numberOf = (patient: { identifiers: { value: string }[] }) => patient.identifiers[0]?.value;

test("an update finds patients by identifier or id, and changes what the row has", async () => {
  const passport = { system: "passport-de", value: randomUUID() };
  const first = await register(admin, {
    identifiers: [passport],
    phones: [
      { value: "+12125550123", use: "home" },
      { value: "+12125550124", use: "mobile" },
    ],
  });
  const second = await register(admin, { address: { street: "1 Way", city: "Troon" } });
  const file = `id,MRN,city,mobile,email\n,${numberOf(first)},,+12125550199,\n${second.id},,Ayr,,ada.${second.id}@example.com\n${second.id},,,,\n,P0,,,\n,,,,x@example.com\n`;
  const body = await send(admin, file, "mode=update");
  expect(body).toMatchObject({ lines: 5, created: 0, updated: 2, unchanged: 1, failed: 2 });
  expect(body.errors).toMatchObject([
    { line: 5, errors: [{ path: "identifiers.mrn", column: "MRN", message: "there is no patient with this identifier" }] },
    { line: 6, errors: [{ message: expect.stringContaining("needs an id or an identifier") }] },
  ]);
  const { phones, identifiers, name, version } = await read(first.id);
  expect({ phones, name, version }).toMatchObject({
    ...{ name: first.name, version: 2 },
    phones: [
      { value: "+12125550123", use: "home" },
      { value: "+12125550199", use: "mobile" },
    ],
  });
  expect(identifiers).toMatchObject(first.identifiers);
  expect(await read(second.id)).toMatchObject({ email: `ada.${second.id}@example.com`, version: 2, address: { city: "Ayr" } });
});

test("a dry run shows what would change, field by field, and changes nothing", async () => {
  const [patient, other] = [await register(admin), await register(admin)];
  const line = (fields: object) => `${JSON.stringify({ id: patient.id, ...fields })}\n`;
  const file = line({ sex: "female", phoneNumber: "212 555 0123" }) + line({ name: patient.name }) + line({ email: other.email });
  const dry = await send(admin, file, "mode=update&dryRun=true", ndjson);
  expect(dry).toMatchObject({ dryRun: true, updated: 1, unchanged: 1, failed: 1, errors: [{ line: 3, errors: [{ path: "email" }] }] });
  expect(dry.changes[0]).toEqual({
    line: 1,
    id: patient.id,
    changes: [
      { field: "phoneNumber", to: "+12125550123" },
      { field: "sex", to: "female" },
    ],
  });
  expect(await read(patient.id)).toMatchObject({ version: 1 });
  const wet = await send(admin, file, "mode=update", ndjson);
  expect(wet).toMatchObject({ updated: 1, unchanged: 1, failed: 1, errors: dry.errors });
  expect(await read(patient.id)).toMatchObject({ version: 2, sex: "female" });
});

test("a dry run tells that others have an e-mail, and not that the patient itself has it, in another spelling", async () => {
  const email = `Ada.${randomUUID()}@example.com`;
  const [patient, other] = [await register(admin, { email }), await register(admin)];
  const line = (fields: object) => `${JSON.stringify({ email: email.toLowerCase(), ...fields })}\n`;
  const file = line({ id: other.id }) + line({ id: patient.id }) + line(someBody({ email })) + line({ id: other.id });
  const failed = [1, 3, 4].map((line) => ({ line, errors: [{ path: "email" }] }));
  for (const query of ["mode=upsert&dryRun=true", "mode=upsert"])
    expect(await send(admin, file, query, ndjson)).toMatchObject({ created: 0, updated: 1, failed: 3, errors: failed });
});

test("a dry run lets lines of one patient have the same e-mail and identifier, also of one whom a line before creates", async () => {
  const [patient, number, email] = [await register(admin), `N-${randomUUID()}`, () => `${randomUUID()}@example.com`];
  const [first, second] = [email(), email()];
  const identifiers = [{ system: "passport-de", value: number }];
  const line = (fields: object) => `${JSON.stringify(fields)}\n`;
  const others = Array.from({ length: 1_100 }, () => line(someBody())).join("");
  const again = (fields: object) => line({ identifiers, ...fields });
  const file = [
    line({ id: patient.id, email: first }),
    line({ id: patient.id, email: first, sex: "female" }),
    line(someBody({ identifiers, email: second })),
    again({ sex: "male" }),
    again({ email: second, name: "Eva Holm" }),
    again({ email: first }),
    again({ dateOfBirth: "2999-01-01" }),
    others,
    again({ sex: "female" }),
  ].join("");
  const [taken, future] = [{ path: "email", message: expect.stringContaining("another patient") }, { path: "dateOfBirth" }];
  for (const query of ["mode=upsert&dryRun=true", "mode=upsert"])
    expect(await send(admin, file, query, ndjson)).toMatchObject({
      ...{ lines: 1_108, created: 1_101, updated: 5, unchanged: 0, failed: 2 },
      errors: [
        { line: 6, errors: [taken] },
        { line: 7, errors: [future] },
      ],
    });
});

test("a line with an id means that patient or nobody, whatever its identifiers", async () => {
  const [patient, number, user] = [await register(admin), `N-${randomUUID()}`, service.as("user")];
  const own = await register(user);
  const line = (id: unknown, value: unknown) => `${JSON.stringify(someBody({ id, identifiers: [{ system: "mrn", value }] }))}\n`;
  const file = line(randomUUID(), numberOf(own)) + line(patient.id, numberOf(own)) + line(randomUUID(), number) + line("7", numberOf(own));
  const errors = [1, 2, 3, 4].map((line) => ({ line, errors: [{ path: "id", message: expect.stringContaining("leave it out") }] }));
  for (const query of ["mode=upsert&dryRun=true", "mode=upsert", "mode=update"])
    expect(await send(user, file, query, ndjson)).toMatchObject({ created: 0, updated: 0, failed: 4, errors });
  for (const { id } of [patient, own]) expect(await read(id)).toMatchObject({ version: 1 });
  expect(await send(user, line(null, numberOf(own)), "mode=upsert", ndjson)).toMatchObject({ updated: 1, failed: 0 });
});

test("an upsert creates who is not there, and changes who is, also a patient of a line before", async () => {
  const [known, number] = [await register(admin), `N-${randomUUID()}`];
  const file = `mrn,name,email,dateOfBirth,address,sex\n${numberOf(known)},,,,,M\n${number},Eva,${number}@example.com,1980-01-01,1 Way,\n${number},Eva Holm,,,,F\n`;
  expect(await send(admin, file, "mode=upsert")).toMatchObject({ created: 1, updated: 2, failed: 0 });
  const { items } = (await admin.send("GET", `/patients?identifier=mrn|${number}`)).body;
  expect(items).toMatchObject([{ name: "Eva Holm", sex: "female", version: 2 }]);
  expect(await send(admin, file, "mode=upsert")).toMatchObject({ created: 0, updated: 2, unchanged: 1 });
});

test("an update leaves the audit entries of a PATCH", async () => {
  const user = service.as("user");
  const patient = await register(user);
  await send(user, `id,sex\n${patient.id},F\n${patient.id},F\n`, "mode=update");
  expect(await audited(user, patient.id)).toEqual(["patient.registered", "patient.updated", "patient.read"]);
});

test("somebody's update reaches no patient whom they may not see, by no key", async () => {
  const patient = await register(admin);
  const stranger = service.as("user");
  const file = `id,mrn,sex\n${patient.id},,F\n,${numberOf(patient)},F\n`;
  expect(await send(stranger, file, "mode=update")).toMatchObject({ updated: 0, failed: 2 });
  expect(await read(patient.id)).toMatchObject({ version: 1 });
});

test("who may only read a patient cannot change them, and the audit trail has the try", async () => {
  const [patient, reader] = [await register(admin), service.as("user")];
  const sharing = { users: [], teams: [], readers: { users: [reader.caller.id], teams: [] } };
  expect((await admin.send("PUT", `/patients/${patient.id}/access`, sharing)).status).toBe(200);
  for (const query of ["mode=update", "mode=upsert", "mode=update&dryRun=true"]) {
    const body = await send(reader, `id,sex\n${patient.id},F\n`, query);
    expect(body).toMatchObject({ updated: 0, failed: 1, errors: [{ line: 2, errors: [{ path: "" }] }] });
  }
  expect(await read(patient.id)).toMatchObject({ version: 1 });
  expect(await audited(reader, patient.id)).toEqual(["access.refused", "access.refused", "access.refused"]);
});

test("an exported row whose last name was edited changes the whole name too", async () => {
  const user = service.as("user");
  const { id } = await register(user, { name: undefined, firstName: "Ada", lastName: "Byron", address: { street: "1 Way", city: "Ayr" } });
  const { text } = await user.send("GET", "/patients:export?format=csv");
  expect(await send(user, text, "mode=update")).toMatchObject({ unchanged: 1, failed: 0 });
  expect(await send(user, text.replace(",Byron,", ",Lovelace,").replace(",1 Way,", ",2 Way,"), "mode=update")).toMatchObject({
    updated: 1,
  });
  expect(await read(id)).toMatchObject({ name: "Ada Lovelace", lastName: "Lovelace", address: { street: "2 Way", text: "2 Way, Ayr" } });
});

test("a key that was used in one mode is not taken for another", async () => {
  const headers = { ...csv, "idempotency-key": randomUUID() };
  const patient = await register(admin);
  expect(await send(admin, `id,sex\n${patient.id},F\n`, "mode=update", headers)).toMatchObject({ updated: 1 });
  expect(await send(admin, `id,sex\n${patient.id},F\n`, "mode=upsert", headers)).toMatchObject({ code: "idempotency_key_reused" });
});

/** Identifiers of patients on a real Postgres: whose they are, how they are found, and our record numbers. */

import { randomUUID } from "node:crypto";
import { createLogger } from "@pm/kit/log";
import { testLifecycle } from "@pm/kit/test/lifecycle";
import { expect, test, vi } from "vitest";
import { createRecordNumbers, startNumbering } from "../src/record-numbers/record-numbers.ts";
import { patientsOfThisFile, someBody } from "./testing.ts";

const { database, service, admin } = await patientsOfThisFile();

type Identifier = { id: string; system: string; value: string };
const recordNumber = ({ identifiers }: { identifiers: Identifier[] }) => identifiers.find(({ system }) => system === "mrn")?.value ?? "";
const passport = () => ({ system: "passport-de", value: `C${randomUUID().slice(0, 8).toUpperCase()}` });
const create = async (fields: Record<string, unknown> = {}) => {
  const { status, body } = await admin.send("POST", "/patients?duplicates=allow", someBody(fields));
  expect({ status, body }).toMatchObject({ status: 201 });
  return body;
};
const idsOf = (query: string) => admin.send("GET", `/patients?${query}`).then(({ body }) => body.items.map(({ id }: { id: string }) => id));
const identifierQuery = ({ system, value }: { system: string; value: string }) => `identifier=${encodeURIComponent(`${system}|${value}`)}`;
const importLines = async (lines: unknown[], query = "") =>
  (
    await admin.send("POST", `/patients:import${query}`, lines.map((line) => JSON.stringify(line)).join("\n"), {
      "content-type": "application/x-ndjson",
    })
  ).body;
const keysOf = async (id: string) =>
  (await service.db.pool.query("select system, value from patient_identifiers where patient_id = $1 order by 1, 2", [id])).rows;

test("every patient gets a record number of their own", async () => {
  const patients = await Promise.all(Array.from({ length: 40 }, () => create()));
  const numbers = patients.map(recordNumber);
  for (const number of numbers) expect(number).toMatch(/^P\d{7}$/);
  expect(new Set(numbers).size).toBe(40);
  const [first] = patients;
  expect((await admin.send("GET", `/patients/${first.id}`)).body).toEqual(first);
  expect(await keysOf(first.id)).toEqual([{ system: "mrn", value: recordNumber(first) }]);
});

test("two replicas give different numbers", async () => {
  const replicas = [1, 2].map(() => createRecordNumbers({ db: service.db, prefix: "X", start: 1 }));
  const numbers = await Promise.all(Array.from({ length: 500 }, (_, index) => replicas[index % 2]?.next()));
  expect(new Set(numbers).size).toBe(500);
});

test("a body may bring a record number, and the platform never gives it to somebody else", async () => {
  const given = recordNumber(await create());
  // The platform gives numbers in order, so these are the next ones.
  const next = Array.from({ length: 5 }, (_, index) => `P${String(Number(given.slice(1, -1)) + index + 1)}`);
  const brought = await Promise.all(
    next.flatMap((digits) =>
      Array.from({ length: 10 }, (_, last) => create({ identifiers: [{ system: "mrn", value: `${digits}${last}` }] })),
    ),
  );
  const others = await Promise.all(Array.from({ length: 20 }, () => create()));
  expect(new Set([...brought, ...others].map(recordNumber)).size).toBe(70);
});

test("an identifier is found by its system and value, exactly, and by q", async () => {
  const [mine, other] = [passport(), passport()];
  const patient = await create({ identifiers: [{ ...mine, type: "passport", period: { start: "2020-05", end: "2030-05-11" } }, other] });
  expect(patient.identifiers).toMatchObject([{ system: "mrn" }, { id: "1", ...mine, type: "passport" }, { id: "2", ...other }]);
  expect(await idsOf(identifierQuery(mine))).toEqual([patient.id]);
  expect(await idsOf(identifierQuery({ ...mine, value: mine.value.toLowerCase() }))).toEqual([]);
  expect(await idsOf(identifierQuery({ ...mine, system: "passport-at" }))).toEqual([]);
  expect(await idsOf(`q=${mine.value.toLowerCase()}`)).toEqual([patient.id]);
  expect(await idsOf(`q=${recordNumber(patient)}`)).toEqual([patient.id]);
  for (const [value, q] of [
    ["0012-34.5678/9", "0012-34.5678/9"],
    ["0012-34.5679/9", "12345679"],
    ["AB 12/77", "ab1277"],
  ]) {
    const { id } = await create({ identifiers: [{ system: "insurance", value }] });
    expect([q, await idsOf(`q=${encodeURIComponent(q ?? "")}`)]).toEqual([q, [id]]);
  }
  const { rows } = await service.db.pool.query(
    "explain select 1 from patients p where p.id = (select patient_id from patient_identifiers where system = 'mrn' and value = 'P1')",
  );
  const plan = rows.map((row) => row["QUERY PLAN"]).join("\n");
  expect(plan).toMatch(/patients_pkey[\s\S]*patient_identifiers_pkey/);
  for (const wrong of ["mrn", "|1", "mrn|"]) {
    const { status, body } = await admin.send("GET", `/patients?identifier=${encodeURIComponent(wrong)}`);
    expect([wrong, status, body.errors?.[0]]).toEqual([
      wrong,
      400,
      { path: "identifier", message: expect.stringContaining("mrn|P1000002") },
    ]);
  }
});

test("a living patient has an identifier alone, and a refusal names its system", async () => {
  const mine = passport();
  const refusal = { status: 409, body: { code: "already_exists", errors: [{ path: "identifiers.passport-de" }] } };
  const first = await create({ identifiers: [mine] });
  const body = someBody({ identifiers: [mine] });
  const key = { "idempotency-key": randomUUID() };
  for (let round = 0; round < 2; round++) expect(await admin.send("POST", "/patients?duplicates=allow", body, key)).toMatchObject(refusal);
  const second = await create();
  expect(await admin.send("PATCH", `/patients/${second.id}`, { identifiers: [mine] })).toMatchObject(refusal);
  expect((await admin.send("DELETE", `/patients/${first.id}`)).status).toBe(204);
  expect(await keysOf(first.id)).toEqual([]);
  expect(await idsOf(identifierQuery(mine))).toEqual([]);
  expect(await idsOf(`${identifierQuery(mine)}&deleted=true`)).toEqual([first.id]);
  expect((await admin.send("PATCH", `/patients/${second.id}`, { identifiers: [mine] })).status).toBe(200);
  expect(await admin.send("POST", `/patients/${first.id}:restore`)).toMatchObject(refusal);
  expect((await admin.send("PATCH", `/patients/${second.id}`, { identifiers: null })).status).toBe(200);
  expect((await admin.send("POST", `/patients/${first.id}:restore`)).status).toBe(200);
  expect(await idsOf(identifierQuery(mine))).toEqual([first.id]);
  expect(await keysOf(first.id)).toHaveLength(2);
});

test("a patient whose e-mail or identifier was given away is restored with the change that solves it", async () => {
  const [mine, own] = [passport(), { system: "insurance", value: randomUUID() }];
  const patient = await create({ identifiers: [mine, own] });
  const path = `/patients/${patient.id}`;
  await admin.send("DELETE", path);
  await create({ email: patient.email, identifiers: [mine] });
  const restore = (body?: unknown) => admin.send("POST", `${path}:restore`, body);
  expect((await restore()).status).toBe(409);
  const email = `new.${randomUUID()}@example.com`;
  expect((await restore({ email })).body).toMatchObject({ status: 409, errors: [{ path: "identifiers.passport-de" }] });
  expect((await restore({ identifiers: [own] })).body).toMatchObject({ status: 409, errors: [{ path: "email" }] });
  expect((await restore({ email: "nobody" })).body).toMatchObject({ status: 400, errors: [{ path: "email" }] });
  const change = { email, identifiers: [own] };
  const restored = await restore(change);
  expect(restored).toMatchObject({ status: 200, body: { version: 3, email, identifiers: [{ system: "mrn" }, own] } });
  expect((await admin.send("GET", path)).body).toEqual(restored.body);
  const { items } = (await admin.send("GET", `${path}/history`)).body;
  expect(items[0]).toMatchObject({
    action: "restored",
    changes: expect.arrayContaining([{ field: "email", from: patient.email, to: email }]),
  });
  // The same request again changes nothing, another one is an ordinary change.
  expect((await restore({ email })).body.version).toBe(3);
  expect((await restore({ name: "Ada King" })).status).toBe(409);
  expect((await admin.send("GET", path)).body.version).toBe(3);
});

test("of many creates with the same identifier at once, one gets it", { timeout: 60_000 }, async () => {
  for (let round = 0; round < 20; round++) {
    const mine = passport();
    const answers = await Promise.all(
      Array.from({ length: 20 }, () =>
        admin.send("POST", "/patients?duplicates=allow", someBody({ identifiers: [mine] })).then(({ status }) => status),
      ),
    );
    expect(answers.sort()).toEqual([201, ...Array(19).fill(409)]);
  }
});

test("a list in a body replaces the list, ids stay, and the record number stays unless another one comes", async () => {
  const [mine, other] = [passport(), { system: "insurance", value: randomUUID() }];
  const patient = await create({ identifiers: [mine] });
  const path = `/patients/${patient.id}`;
  const [number, first] = patient.identifiers;
  const patch = async (body: unknown) => (await admin.send("PATCH", path, body)).body;
  const changed = await patch({ identifiers: [{ ...first, type: "passport" }, other] });
  expect(changed.identifiers).toEqual([number, { ...first, type: "passport" }, { ...other, id: expect.stringMatching(/^[0-9a-f]{8}$/) }]);
  expect((await patch({ identifiers: changed.identifiers })).version).toBe(changed.version);
  // Older clients do not know identifiers, and send a body without them.
  expect((await admin.send("PUT", path, someBody())).body.identifiers).toEqual(changed.identifiers);
  expect(
    (await patch({ identifiers: [changed.identifiers[2], changed.identifiers[1]] })).identifiers.map(({ id }: Identifier) => id),
  ).toEqual([number.id, changed.identifiers[2].id, first.id]);
  expect((await patch({ identifiers: null })).identifiers).toEqual([number]);
  const mrn = { system: "mrn", value: `OLD-${randomUUID()}` };
  expect((await patch({ identifiers: [mrn] })).identifiers).toMatchObject([mrn]);
  const { items } = (await admin.send("GET", `${path}/history`)).body;
  const fields = items.flatMap(({ changes }: { changes: { field: string }[] }) => changes.map(({ field }) => field));
  expect(fields).toContain(`identifiers.${first.id}.type`);
  expect(fields).not.toContain("details");
});

test("what is wrong with an identifier is named by its place", async () => {
  const { status, body } = await admin.send(
    "POST",
    "/patients",
    someBody({
      identifiers: [
        { system: "a b", value: "1" },
        { system: "x", value: " ", colour: "red" },
        { value: "1", type: "ticket", period: { start: "2020-13" } },
        { system: "x", value: "1", id: "not an id", period: { start: "2021", end: "2020-12-31" } },
        "passport",
      ],
    }),
  );
  expect(status).toBe(400);
  expect(body.errors.map(({ path }: { path: string }) => path)).toEqual([
    "identifiers[0].system",
    "identifiers[1].value",
    "identifiers[1].colour",
    "identifiers[2].type",
    "identifiers[2].period.start",
    "identifiers[2].system",
    "identifiers[3].id",
    "identifiers[3].period.end",
    "identifiers[4]",
  ]);
  for (const identifiers of ["x", {}, Array(21).fill({ system: "x", value: "1" }), Array(2).fill({ system: "x", value: "1" })])
    expect((await admin.send("POST", "/patients?duplicates=allow", someBody({ identifiers }))).status).toBe(400);
});

test("an import brings record numbers, numbers the other lines, and refuses what is taken; a dry run says so before", async () => {
  const [mrn, taken] = [{ system: "mrn", value: `OLD-${randomUUID()}` }, passport()];
  await create({ identifiers: [taken] });
  const lines = [someBody({ identifiers: [mrn] }), someBody(), someBody({ identifiers: [taken] }), someBody({ identifiers: [mrn] })];
  const errors = [
    { line: 3, errors: [{ path: "identifiers.passport-de" }] },
    { line: 4, errors: [{ path: "identifiers.mrn" }] },
  ];
  expect(await importLines(lines, "?dryRun=true")).toMatchObject({ created: 2, failed: 2, errors });
  expect(await importLines(lines)).toMatchObject({ created: 2, failed: 2, errors });
  const [brought] = (await admin.send("GET", `/patients?${identifierQuery(mrn)}`)).body.items;
  expect(brought.identifiers).toEqual([{ ...mrn, id: "1" }]);
  const many = Array.from({ length: 2_500 }, () => someBody());
  expect(await importLines(many)).toMatchObject({ created: 2_500, failed: 0 });
  const { rows } = await service.db.pool.query(
    "select count(*)::int as n from patients p where not exists (select 1 from patient_identifiers where patient_id = p.id) and deleted_at is null",
  );
  expect(rows).toEqual([{ n: 0 }]);
});

test("an export has the identifiers, and an import of it keeps them", async () => {
  const mine = passport();
  const patient = await create({ identifiers: [mine] });
  const line = (await admin.send("GET", `/patients:export?${identifierQuery(mine)}`)).text;
  await admin.send("DELETE", `/patients/${patient.id}`);
  expect(await importLines([JSON.parse(line)])).toMatchObject({ created: 1, failed: 0 });
  const again = JSON.parse((await admin.send("GET", `/patients:export?${identifierQuery(mine)}`)).text);
  expect(again.identifiers).toEqual(patient.identifiers);
});

test("patients of the version before get record numbers while others change them, and only once", async () => {
  const older = await Promise.all(Array.from({ length: 300 }, () => create()));
  const ids = older.map(({ id }) => id);
  // As the version before has written them.
  await service.db.pool.query("update patients set details = null where id = any($1)", [ids]);
  await admin.send("DELETE", `/patients/${ids[0]}`);
  expect((await admin.send("GET", `/patients/${ids[1]}`)).body).not.toHaveProperty("identifiers");
  const lifecycle = testLifecycle();
  const options = { db: service.db, prefix: "P", start: 100_000, log: createLogger("patient", "silent") };
  for (let replica = 0; replica < 2; replica++) startNumbering({ ...options, settings: { url: database.databaseUrl }, lifecycle });
  const changed = ids.slice(1, 100).map((id) => admin.send("PATCH", `/patients/${id}`, { identifiers: [passport()] }));
  for (const { status } of await Promise.all(changed)) expect(status).toBe(200);
  const unnumbered = `select count(*)::int as n from patients where id = any($1) and not coalesce(details->'identifiers', '[]') @> '[{"system": "mrn"}]'`;
  await vi.waitFor(async () => expect((await service.db.pool.query(unnumbered, [ids])).rows).toEqual([{ n: 0 }]), { timeout: 20_000 });
  await lifecycle.shutdown("test");
  const { rows } = await service.db.pool.query(
    `select p.id from patients p where id = any($1) and (p.deleted_at is null) <> exists (
      select 1 from patient_identifiers k where k.patient_id = p.id and p.details->'identifiers' @> jsonb_build_array(jsonb_build_object('system', 'mrn', 'value', k.value)))`,
    [ids],
  );
  expect(rows).toEqual([]);
  const { body } = await admin.send("GET", `/patients/${ids[150]}`);
  expect(body).toMatchObject({ version: 1, identifiers: [{ system: "mrn" }] });
  expect(await idsOf(`q=${recordNumber(body)}`)).toEqual([body.id]);
});

/** Who may be the same person, over a real Postgres: candidates, what creates and imports say, and the work list. */

import { randomUUID } from "node:crypto";
import { createLogger } from "@pm/kit/log";
import { databaseSettings } from "@pm/kit/postgres/database";
import { testLifecycle } from "@pm/kit/test/lifecycle";
import { afterAll, expect, test, vi } from "vitest";
import { findByBirthKey } from "../src/matching/candidates-store.ts";
import { readModel } from "../src/matching/model-file.ts";
import { startPairing } from "../src/matching/pairing.ts";
import { settlePairs } from "../src/matching/pairs-store.ts";
import { createWordCounts } from "../src/patients/word-frequencies-store.ts";
import { type Client, patientsOfThisFile, stranger } from "./testing.ts";

const { database, service, admin } = await patientsOfThisFile();
const lifecycle = testLifecycle();
afterAll(() => lifecycle.shutdown("test"));

const create = async (body: object, { as = admin, query = "" }: { as?: Client; query?: string } = {}) => {
  const { status, body: answer } = await as.send("POST", `/patients${query}`, body);
  expect({ status, answer }).toMatchObject({ status: 201 });
  return answer;
};
const match = async (body: object, as = admin) => {
  const { status, body: answer } = await as.send("POST", "/patients:match", body);
  expect({ status, answer }).toMatchObject({ status: 200 });
  return answer.candidates as { patient: { id: string }; score: number; grade: string; reasons: { field: string; level: string }[] }[];
};
const levelsOf = (candidate: { reasons: { field: string; level: string }[] } | undefined) =>
  Object.fromEntries(candidate?.reasons.map(({ field, level }) => [field, level]) ?? []);
const twice = (body: Record<string, unknown>) => ({ ...body, email: `${randomUUID()}@example.com` });

test("somebody is found by swapped names, typing errors, a nickname, transposed digits of a date, and says why", async () => {
  const person = stranger({ firstName: "William" });
  const { id } = await create(person);
  const { lastName, dateOfBirth, address } = person as { lastName: string; dateOfBirth: string; address: object };
  const [year, month, day] = dateOfBirth.split("-") as [string, string, string];
  const found = async (body: object) => (await match(body)).find(({ patient }) => patient.id === id);
  expect(await found({ firstName: "William", lastName, dateOfBirth })).toMatchObject({ grade: "certain", patient: { id } });
  expect(levelsOf(await found({ firstName: lastName, lastName: "William", dateOfBirth }))).toMatchObject({ nameOrder: "swapped" });
  expect(levelsOf(await found({ firstName: "Bill", lastName, dateOfBirth }))).toMatchObject({ given: "nickname" });
  expect(levelsOf(await found({ firstName: "Wiliam", lastName: `${lastName}n`, address }))).toMatchObject({
    given: "nearly",
    family: "nearly",
  });
  const transposed = `${year}-${month}-${day[1]}${day[0]}`;
  expect(levelsOf(await found({ firstName: "William", lastName, dateOfBirth: transposed }))).toMatchObject({
    dateOfBirth: day === `${day[1]}${day[0]}` ? "same" : "transposed",
  });
  expect(levelsOf(await found({ firstName: "William", lastName, dateOfBirth: year }))).toMatchObject({ dateOfBirth: "same year" });
  expect(levelsOf(await found({ name: `Mr. William ${lastName}`, dateOfBirth: `${year}-${month}` }))).toMatchObject({
    dateOfBirth: "partly known",
  });
});

test("an identifier or a whole e-mail finds somebody, and an identifier of one system is certain", async () => {
  const passport = { system: "passport-de", value: randomUUID().slice(0, 8) };
  const { id, email } = await create(stranger({ identifiers: [passport] }));
  expect(await match({ identifiers: [passport], firstName: "Otto", lastName: "Anders" })).toMatchObject([
    { grade: "certain", patient: { id } },
  ]);
  expect(await match({ identifiers: [{ ...passport, system: "passport-fr" }] })).toEqual([]);
  expect(await match({ email: email.toUpperCase() })).toMatchObject([{ grade: "possible", patient: { id } }]);
});

test("people of one home are no candidates, and twins are never certain", async () => {
  const mother = stranger({ firstName: "Margarethe", dateOfBirth: "1960-05-02" });
  await create(mother);
  const home = { lastName: mother.lastName, address: mother.address };
  expect(await match({ ...home, firstName: "Bruno", dateOfBirth: "1991-11-23" })).toEqual([]);
  expect(await match({ ...home, firstName: "Bruno", dateOfBirth: "1960-05-02" })).toMatchObject([{ grade: "probable" }]);
});

test("nothing to compare, and unknown fields, are 400 with the fix", async () => {
  const { status, body } = await admin.send("POST", "/patients:match", { sex: "female" });
  expect({ status, errors: body.errors }).toMatchObject({
    status: 400,
    errors: [{ message: expect.stringContaining("must have a name") }],
  });
  expect((await admin.send("POST", "/patients:match", { surname: "Lovelace" })).status).toBe(400);
});

test("whom the caller may not see is neither shown nor counted, nor is a deleted patient", async () => {
  const [owner, other] = [service.as("user"), service.as("user")];
  const person = stranger();
  const { id } = await create(person, { as: owner });
  expect(await match(person, owner)).toMatchObject([{ patient: { id } }]);
  expect(await match(person, other)).toEqual([]);
  expect(await create(twice(person), { as: other })).toMatchObject({ possibleDuplicates: 0 });
  expect((await other.send("POST", "/patients?duplicates=refuse", twice(person))).status).toBe(409);
  await admin.send("DELETE", `/patients/${id}`);
  expect(await match(person, owner)).toEqual([]);
  const { rows } = await service.db.pool.query(
    "select details from audit_entries where action = 'patient.matched' and actor = $1 order by id",
    [owner.caller.id],
  );
  expect(rows).toEqual([{ details: { ids: [id] } }, { details: { ids: [] } }]);
});

test("a create warns by default, allows without looking, and refuses with the candidates", async () => {
  const person = stranger();
  const { id, possibleDuplicates } = await create(person);
  expect(possibleDuplicates).toBe(0);
  expect(await create(twice(person))).toMatchObject({ possibleDuplicates: 1 });
  expect(await create(twice(person), { query: "?duplicates=allow" })).not.toHaveProperty("possibleDuplicates");
  const refused = await admin.send("POST", "/patients?duplicates=refuse", twice(person));
  expect(refused).toMatchObject({ status: 409, body: { code: "already_exists" } });
  expect(refused.body.candidates).toHaveLength(3);
  const shown = refused.body.candidates.map(({ patient }: { patient: { id: string } }) => patient);
  expect(shown).toContainEqual((await admin.send("GET", `/patients/${id}`)).body);
  expect(refused.body.candidates[0]).toMatchObject({ grade: "certain", score: expect.any(Number), reasons: expect.any(Array) });
  expect(await create(stranger(), { query: "?duplicates=refuse" })).not.toHaveProperty("possibleDuplicates");
  expect((await admin.send("POST", "/patients?duplicates=maybe", person)).status).toBe(400);
});

test("a warning counts who was born on that day and has names that sound alike, and a refusal finds others too", async () => {
  const person = stranger({ firstName: "Katherine", dateOfBirth: "1961-07-14" });
  await create(person);
  const { lastName } = person as { lastName: string };
  const warned = async (fields: object) => (await create(twice({ ...person, ...fields }))).possibleDuplicates;
  expect(await warned({ firstName: "Catherine" })).toBe(1);
  expect(await warned({ firstName: lastName, lastName: "Katharine" })).toBe(2);
  expect(await warned({ dateOfBirth: "1961-07-15" })).toBe(0);
  const refused = await admin.send("POST", "/patients?duplicates=refuse", twice({ ...person, dateOfBirth: "1961-07-15" }));
  expect(refused).toMatchObject({ status: 409 });
  expect(refused.body.candidates.length).toBe(4);
});

test("a look at everybody of that day uses the index, in a table of which Postgres has no statistics yet", async () => {
  const rows: unknown[] = [];
  const explain = async ({ text }: { text: string }, values: unknown[]) => {
    rows.push(...(await service.db.pool.query(`explain (format json) ${text}`, values)).rows);
    return [];
  };
  await findByBirthKey({ query: explain }, ["{1}"]);
  expect(JSON.stringify(rows)).toContain("patients_birth_key");
  expect(JSON.stringify(rows)).not.toContain("Seq Scan");
});

test("of 64 requests for one person at once, one creates them and the others meet them", async () => {
  const person = stranger();
  const answers = await Promise.all(Array.from({ length: 64 }, () => admin.send("POST", "/patients?duplicates=refuse", twice(person))));
  expect(answers.filter(({ status }) => status === 201)).toHaveLength(1);
  expect(answers.filter(({ status }) => status === 409)).toHaveLength(63);
  const warned = await Promise.all(Array.from({ length: 64 }, () => create(twice(stranger({ ...person })))));
  expect(warned.filter(({ possibleDuplicates }) => possibleDuplicates > 0).length).toBe(64);
});

test("a repeated request gets the first answer, whatever was registered since", async () => {
  const person = stranger();
  const headers = { "idempotency-key": randomUUID() };
  const first = await admin.send("POST", "/patients?duplicates=refuse", person, headers);
  expect(first.status).toBe(201);
  await create(twice(person));
  const again = await admin.send("POST", "/patients?duplicates=refuse", person, headers);
  expect(again).toMatchObject({ status: 201, body: { id: first.body.id } });
  expect(again.body).toEqual({ ...first.body, billing: again.body.billing });
  const warned = { "idempotency-key": randomUUID() };
  const body = twice(person);
  const one = await admin.send("POST", "/patients", body, warned);
  await create(twice(person));
  const two = await admin.send("POST", "/patients", body, warned);
  expect([one.body.possibleDuplicates, two.body.possibleDuplicates]).toEqual([2, 2]);
});

const importLines = async (lines: object[], query: string) => {
  const text = lines.map((line) => JSON.stringify(line)).join("\n");
  const { status, body } = await admin.send("POST", `/patients:import${query}`, text, { "content-type": "application/x-ndjson" });
  expect({ status, body }).toMatchObject({ status: 200 });
  return body;
};

test("an import says of each line whether its patient may be registered already, also by a line before it", async () => {
  const [known, fresh] = [stranger(), stranger()];
  await create(known);
  const lines = () => [twice(known), fresh, stranger(), twice(fresh)].map(twice);
  const warned = await importLines(lines(), "");
  expect(warned).toMatchObject({ created: 4, failed: 0 });
  expect(warned.possibleDuplicates).toEqual([
    { line: 1, possibleDuplicates: 1 },
    { line: 4, possibleDuplicates: 1 },
  ]);
  const refused = await importLines([twice(known), stranger()], "?duplicates=refuse");
  expect(refused).toMatchObject({ created: 1, failed: 1, possibleDuplicates: [] });
  expect(refused.errors).toEqual([
    { line: 1, errors: [{ path: "", message: expect.stringContaining("may be the same person as 2 patients") }] },
  ]);
  expect(await importLines([twice(known)], "?duplicates=allow")).toMatchObject({ created: 1, possibleDuplicates: [] });
});

test("of 64 requests and 12 imports with one person at once, one creates them, and each of the others is told", async () => {
  const person = stranger();
  // Each import is of another caller, since one caller runs few at once. All of them see every patient.
  const imports = Array.from({ length: 12 }, async () => {
    const lines = [twice(person), stranger(), twice(person)].map((line) => JSON.stringify(line)).join("\n");
    const type = { "content-type": "application/x-ndjson" };
    const answer = await service.as("admin").send("POST", "/patients:import?duplicates=refuse", lines, type);
    expect(answer).toMatchObject({ status: 200 });
    return answer.body as { created: number; failed: number; errors: { line: number }[] };
  });
  const requests = Array.from({ length: 64 }, () => admin.send("POST", "/patients?duplicates=refuse", twice(person)));
  const statuses = (await Promise.all(requests)).map(({ status }) => status);
  const reports = await Promise.all(imports);
  const ofRequests = statuses.filter((status) => status === 201).length;
  // The second line of each import is somebody else.
  const ofImports = reports.reduce((sum, { created }) => sum + created - 1, 0);
  expect(ofRequests + ofImports).toBe(1);
  expect(statuses.filter((status) => status === 409)).toHaveLength(64 - ofRequests);
  expect(reports.reduce((sum, { errors }) => sum + errors.length, 0)).toBe(24 - ofImports);
  const { rows } = await service.db.pool.query("select 1 from patients where name ilike $1", [`%${person.lastName}%`]);
  expect(rows).toHaveLength(1);
}, 60_000);

const pairsOf = async (as: Client, ids: string[], state = "open") => {
  const pairs: { id: string; score: number; state: string; patients: { id: string }[] }[] = [];
  for (let cursor = ""; ; ) {
    const { body } = await as.send("GET", `/patients/duplicates?state=${state}&limit=5${cursor && `&cursor=${cursor}`}`);
    pairs.push(...body.items);
    if (body.nextCursor === undefined) break;
    cursor = body.nextCursor;
  }
  expect(pairs.map(({ score }) => score)).toEqual(pairs.map(({ score }) => score).toSorted((a, b) => b - a));
  return pairs.filter(({ patients }) => patients.every(({ id }) => ids.includes(id)));
};

test("a job keeps the work list, and what was dismissed stays dismissed for ever", async () => {
  const settings = databaseSettings({ DATABASE_URL: database.databaseUrl });
  const frequencies = createWordCounts(service.db);
  const model = readModel();
  const job = { db: service.db, settings, model, frequencies, isRewritten: () => true, log: createLogger("patient", "silent"), lifecycle };
  const person = stranger();
  const before = [await create(person), await create(twice(person))].map(({ id }) => id);
  startPairing(job);
  // The walk through all patients finds those who were there, and the job follows those who come.
  await vi.waitFor(async () => expect(await pairsOf(admin, before)).toHaveLength(1), { timeout: 30_000, interval: 500 });
  const owner = service.as("user");
  const after = [await create(twice(person), { as: owner }), await create(twice(person), { as: owner })].map(({ id }) => id);
  const all = [...before, ...after];
  await vi.waitFor(async () => expect(await pairsOf(admin, all)).toHaveLength(6), { timeout: 30_000, interval: 500 });
  // Those who may not see both records see no pair.
  const mine = await pairsOf(owner, all);
  expect(mine).toMatchObject([{ state: "open", patients: after.toSorted().map((id) => ({ id })) }]);
  expect(await pairsOf(service.as("user"), all)).toEqual([]);
  const shown = await Promise.all(after.toSorted().map(async (id) => (await admin.send("GET", `/patients/${id}`)).body));
  expect(mine[0]?.patients).toEqual(shown);
  const theirs = (await pairsOf(admin, before))[0]?.id;
  expect((await owner.send("POST", `/patients/duplicates/${theirs}:dismiss`)).status).toBe(404);
  expect((await owner.send("POST", `/patients/duplicates/${randomUUID()}:dismiss`)).status).toBe(404);

  for (let time = 0; time < 2; time++)
    expect(await owner.send("POST", `/patients/duplicates/${mine[0]?.id}:dismiss`)).toMatchObject({
      status: 200,
      body: { id: mine[0]?.id, state: "not_the_same" },
    });
  expect(await pairsOf(owner, all)).toEqual([]);
  // A record that changes is compared again.
  await admin.send("PATCH", `/patients/${after[0]}`, { phoneNumber: "+12175550123" });
  const elsewhere = stranger();
  await admin.send("PATCH", `/patients/${before[0]}`, { ...elsewhere, email: `${randomUUID()}@example.com` });
  await vi.waitFor(async () => expect(await pairsOf(admin, all)).toHaveLength(2), { timeout: 30_000, interval: 500 });
  expect(await pairsOf(admin, all, "not_the_same")).toMatchObject([{ id: mine[0]?.id, state: "not_the_same" }]);
  // Deleted records are in no open pair, and merged ones are decided.
  await admin.send("DELETE", `/patients/${after[1]}`);
  expect(await pairsOf(admin, all)).toHaveLength(1);
  await settlePairs(service.db, [[after[0] ?? "", before[1] ?? ""]], "merged", admin.caller.id);
  expect(await pairsOf(admin, all)).toEqual([]);
  const merged = (await pairsOf(admin, all, "merged"))[0]?.id;
  expect((await admin.send("POST", `/patients/duplicates/${merged}:dismiss`)).status).toBe(409);
});

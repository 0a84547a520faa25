/** Many writes in one transaction, over a real Postgres. */
import { randomUUID } from "node:crypto";
import * as fc from "fast-check";
import { expect, test } from "vitest";
import { patientsOfThisFile, someBody } from "./testing.ts";

const { service, admin } = await patientsOfThisFile();

const create = async (fields: Record<string, unknown> = {}, who = admin) =>
  (await who.send("POST", "/patients?duplicates=allow", someBody(fields))).body;
const batch = (operations: unknown[], { who = admin, key }: { who?: typeof admin; key?: string } = {}) =>
  who.send("POST", "/patients:batch", { operations }, key === undefined ? {} : { "idempotency-key": key });
const read = async (id: string) => (await admin.send("GET", `/patients/${id}`)).body;
const newcomer = (fields: Record<string, unknown> = {}) => ({ method: "create", body: someBody(fields) });

test("operations are done together, with their results in order, as each would be done alone", async () => {
  const [changes, goes, stays] = [await create(), await create({ identifiers: [{ system: "ssn", value: "1" }] }), await create()];
  const { status, body } = await batch([
    { method: "patch", id: changes.id, ifMatch: 'W/"1"', body: { sex: "female" } },
    newcomer({ name: "Grace Hopper", identifiers: [{ system: "ssn", value: "1" }] }),
    { method: "delete", id: goes.id },
    { method: "patch", id: stays.id, body: {} },
    { method: "replace", id: (await create()).id, body: someBody({ name: "Emmy Noether" }) },
  ]);
  expect(status).toBe(200);
  const [patched, created, deleted, same, replaced] = body.results;
  expect(patched).toEqual({ status: 200, id: changes.id, version: 2, patient: await read(changes.id) });
  expect(created).toEqual({ status: 201, id: created.id, version: 1, patient: await read(created.id) });
  expect(created.patient).toMatchObject({ name: "Grace Hopper", billing: { status: "active" } });
  expect(created.patient.identifiers.map(({ system }: { system: string }) => system)).toEqual(["mrn", "ssn"]);
  expect(deleted).toEqual({ status: 204, id: goes.id, version: 2 });
  expect(same).toMatchObject({ status: 200, version: 1, patient: { id: stays.id } });
  expect(replaced).toMatchObject({ status: 200, version: 2, patient: { name: "Emmy Noether" } });
  expect((await admin.send("GET", "/patients?q=hopper")).body.items).toHaveLength(1);
  const leaves = async (id: string) => {
    const { rows } = await service.db.pool.query(
      `select array(select action from audit_entries where subject = $1 and details ? 'sha256' order by id) as entries,
        array(select type from outbox where key = $1 order by id) as events`,
      [id],
    );
    return rows[0];
  };
  const registered = ["patient.registered"];
  for (const [id, then] of [
    [changes.id, ["patient.updated"]],
    [created.id, []],
    [goes.id, ["patient.deleted"]],
    [stays.id, []],
  ] as const) {
    const entries = [...registered, ...then];
    expect(await leaves(id)).toEqual({ entries, events: entries.map((entry) => entry.replace("patient.", "patient.v1.")) });
  }
});

test("deleting a patient who is deleted already changes nothing, and is refused to whoever may not delete them", async () => {
  const [gone, stays] = [await create(), await create()];
  await admin.send("DELETE", `/patients/${gone.id}`);
  const remove = { method: "delete", id: gone.id };
  const change = { method: "patch", id: stays.id, body: { sex: "other" } };
  for (const ifMatch of [undefined, '"2"']) {
    const { status, body } = await batch([{ ...remove, ifMatch }, change]);
    expect([status, body.results[0]]).toEqual([200, { status: 204, id: gone.id, version: 2 }]);
  }
  expect((await batch([{ ...remove, ifMatch: '"1"' }, change])).status).toBe(412);
  expect((await batch([remove, change], { who: service.as("user") })).status).toBe(404);
  expect((await admin.send("GET", `/patients/${gone.id}/history`)).body.items).toHaveLength(2);
});

test("if one operation cannot be done, none is, and the answer names it", async () => {
  const holder = await create({ email: "held@example.com", identifiers: [{ system: "ssn", value: "held" }] });
  const [one, gone] = [await create(), await create()];
  await admin.send("DELETE", `/patients/${gone.id}`);
  const reader = service.as("user");
  await admin.send("PUT", `/patients/${one.id}/access`, { users: [], teams: [], readers: { users: [reader.caller.id], teams: [] } });
  const stranger = randomUUID();
  const cases: [unknown, number, Record<string, unknown>, typeof admin?][] = [
    [{ method: "patch", id: one.id, ifMatch: '"7"', body: {} }, 412, { metadata: { version: "1", operation: "1" } }],
    [{ method: "patch", id: gone.id, body: {} }, 404, { code: "not_found" }],
    [{ method: "delete", id: stranger }, 404, { code: "not_found" }],
    [{ method: "delete", id: "nonsense" }, 404, { code: "not_found" }],
    [
      newcomer({ email: "HELD@example.com" }),
      409,
      { reason: "EMAIL_TAKEN", errors: [{ path: "operations[1].body.email", message: expect.anything() }] },
    ],
    [
      newcomer({ identifiers: [{ system: "ssn", value: "held" }] }),
      409,
      { reason: "IDENTIFIER_TAKEN", metadata: { patientId: holder.id, operation: "1" } },
    ],
    [
      { method: "patch", id: one.id, body: { identifiers: [{ system: "ssn", value: "held" }] } },
      409,
      { metadata: { patientId: holder.id, operation: "1" } },
    ],
    [newcomer({ dateOfBirth: "2999-01-01" }), 400, { errors: [{ path: "operations[1].body.dateOfBirth", message: expect.anything() }] }],

    [{ method: "patch", id: one.id, body: {} }, 403, { code: "permission_denied" }, reader],
  ];
  for (const [operation, status, problem, who = admin] of cases) {
    const word = `Q${randomUUID().replaceAll(/[^a-f]/g, "")}`;
    const answer = await batch([newcomer({ name: `Nobody ${word}` }), operation], { who });
    expect([operation, answer.status, answer.body]).toEqual([operation, status, expect.objectContaining(problem)]);
    expect(answer.body.metadata).toMatchObject({ operation: "1" });
    expect((await who.send("GET", `/patients?q=${word}`)).body.items).toEqual([]);
  }
  const twice = await batch([{ method: "delete", id: one.id }, newcomer(), { method: "patch", id: one.id.toUpperCase(), body: {} }]);
  expect([twice.status, twice.body.errors[0].path]).toEqual([400, "operations[2].id"]);
  for (const wrong of [
    [],
    Array.from({ length: 101 }, () => newcomer()),
    [{ method: "read", id: one.id }],
    [{ method: "create" }],
    [{ ...newcomer(), id: one.id }],
  ])
    expect((await batch(wrong)).status).toBe(400);
});

test("a batch that waits for a patient writes by what holds when it gets them: a share that has ended, and a merge", async () => {
  const colleague = service.as("user");
  const [shared, merged, survivor] = [await create(), await create(), await create()];
  await admin.send("PUT", `/patients/${shared.id}/access`, { users: [colleague.caller.id], teams: [] });
  const holder = await service.db.pool.connect();
  await holder.query("begin");
  await holder.query("select 1 from patients where id = any($1) order by id for update", [[shared.id, merged.id]]);
  const waiting = [
    batch([{ method: "patch", id: shared.id, body: { sex: "other" } }], { who: colleague }),
    batch([{ method: "patch", id: merged.id, body: { sex: "other" } }]),
    batch([{ method: "patch", id: merged.id, body: {} }]),
  ];
  const locked = async () => {
    const { rows } = await service.db.pool.query(
      "select 1 from pg_stat_activity where wait_event_type = 'Lock' and query like '%for update'",
    );
    return rows.length;
  };
  await expect.poll(locked, { timeout: 10_000 }).toBe(3);
  await holder.query("delete from patient_access where patient_id = $1", [shared.id]);
  await holder.query("update patients set merged_into = $2, deleted_at = now() where id = $1", [merged.id, survivor.id]);
  await holder.query("commit");
  holder.release();
  const answers = await Promise.all(waiting);
  expect(answers.map(({ status, body }) => [status, body.reason ?? body.code])).toEqual([
    [404, "not_found"],
    [409, "MERGED"],
    [409, "MERGED"],
  ]);
});

test("a create that meets an identifier says whose it is, if the caller may see them, and nothing otherwise", async () => {
  const holder = await create({ identifiers: [{ system: "ssn", value: "met" }] });
  const stranger = service.as("user");
  const meet = (who: typeof admin) => who.send("POST", "/patients", someBody({ identifiers: [{ system: "ssn", value: "met" }] }));
  const seen = await meet(admin);
  expect([seen.status, seen.body.reason, seen.body.metadata]).toEqual([409, "IDENTIFIER_TAKEN", { patientId: holder.id }]);
  const unseen = await meet(stranger);
  expect([unseen.status, unseen.body.reason, unseen.body.metadata]).toEqual([409, "IDENTIFIER_TAKEN", undefined]);
  const inBatch = await batch([newcomer({ identifiers: [{ system: "ssn", value: "met" }] })], { who: stranger });
  expect([inBatch.status, inBatch.body.metadata]).toEqual([409, { operation: "0" }]);
  const { rows } = await service.db.pool.query(
    "select count(*)::int as n from audit_entries where actor = $1 and action = 'patient.conflict_told'",
    [stranger.caller.id],
  );
  expect(rows).toEqual([{ n: 2 }]);
});

test("the same batch under the same key is done once, also at the same moment", async () => {
  const target = await create();
  const operations = [
    newcomer({ name: "Once Only" }),
    { method: "patch", id: target.id, body: { sex: "other" } },
    { method: "delete", id: (await create()).id },
  ];
  const key = randomUUID();
  const answers = await Promise.all(Array.from({ length: 8 }, () => batch(operations, { key })));
  expect(answers.map(({ status }) => status)).toEqual(answers.map(() => 200));
  expect(answers.filter(({ headers }) => headers.get("idempotency-replayed") === null)).toHaveLength(1);
  const bare = answers.map(({ body }) =>
    body.results.map(({ patient, ...result }: { patient?: { billing: unknown } }) => [result, patient && { ...patient, billing: 0 }]),
  );
  for (const one of bare) expect(one).toEqual(bare[0]);
  expect((await read(target.id)).version).toBe(2);
  expect((await admin.send("GET", "/patients?q=once+only")).body.items).toHaveLength(1);
  expect((await batch([newcomer()], { key })).status).toBe(422);
  expect((await admin.send("POST", "/patients", someBody(), { "idempotency-key": key })).status).toBe(422);
});

test("a repeated batch gets its answer again, though the patients are no longer as it found them", async () => {
  for (const who of [admin, service.as("user")]) {
    const [changes, goes] = [await create({}, who), await create({}, who)];
    const operations = [
      newcomer({ identifiers: [{ system: "repeated", value: changes.id }] }),
      { method: "patch", id: changes.id, ifMatch: '"1"', body: { sex: "other" } },
      { method: "delete", id: goes.id, ifMatch: '"1"' },
    ];
    const key = randomUUID();
    const answers = await Promise.all(Array.from({ length: 4 }, () => batch(operations, { who, key })));
    answers.push(await batch(operations, { who, key }));
    for (const { status, body } of answers)
      expect([status, body.results?.map(({ id }: { id: string }) => id)]).toEqual([200, expect.arrayContaining([changes.id, goes.id])]);
    expect(answers.filter(({ headers }) => headers.get("idempotency-replayed") === null)).toHaveLength(1);
    expect(answers.at(-1)?.body.results[1].patient).toMatchObject({ id: changes.id, version: 2, sex: "other" });
    const other = await batch([{ method: "delete", id: goes.id }], { who, key });
    expect([other.status, other.body.code]).toEqual([422, "idempotency_key_reused"]);
  }
});

test("a repeated answer shows only patients whom the caller may still see", async () => {
  const who = service.as("user");
  const shared = await create();
  const share = (writers: string[]) => admin.send("PUT", `/patients/${shared.id}/access`, { users: writers, teams: [] });
  await share([who.caller.id]);
  const [stays, goes] = [await create({}, who), await create({}, who)];
  const operations = [shared, stays, goes].map(({ id }) => ({ method: "patch", id, body: { sex: "other" } }));
  const key = randomUUID();
  const first = await batch(operations, { who, key });
  expect(first.body.results.map(({ patient }: { patient?: object }) => patient !== undefined)).toEqual([true, true, true]);
  await share([]);
  await who.send("DELETE", `/patients/${goes.id}`);
  const { status, body } = await batch(operations, { who, key });
  expect([status, body.results]).toEqual([
    200,
    first.body.results.map(({ patient, ...result }: { id: string; patient: object }) =>
      [shared.id, goes.id].includes(result.id) ? result : { ...result, patient },
    ),
  ]);
});

test("batches that cross all win, whatever the order of their patients, names, addresses and identifiers", {
  timeout: 120_000,
}, async () => {
  const targets = await Promise.all(Array.from({ length: 10 }, () => create()));
  const names = Array.from({ length: 40 }, (_, n) => `Crossing${String.fromCharCode(97 + (n % 26))}${n}`);
  const shuffled = <T>(list: T[], seed: number) =>
    fc.sample(fc.shuffledSubarray(list, { minLength: list.length }), { numRuns: 1, seed })[0] ?? [];
  const answers = await Promise.all(
    Array.from({ length: 8 }, (_, seed) =>
      batch([
        ...shuffled(targets, seed).map(({ id }) => ({
          method: "patch",
          id,
          body: { name: `${shuffled(names, seed + 1)[0]} ${seed}`, generalPractitioner: `Dr ${seed}` },
        })),
        ...shuffled(names, seed + 2).map((name, n) => newcomer({ name, identifiers: [{ system: `s${seed}`, value: `${n}` }] })),
      ]),
    ),
  );
  expect(answers.map(({ status, text }) => (status === 200 ? 200 : text))).toEqual(answers.map(() => 200));
  for (const { id } of targets) expect((await read(id)).version).toBe(9);
});

test("of batches that want one identifier at the same moment, one wins and the others learn who", { timeout: 60_000 }, async () => {
  for (let round = 0; round < 5; round++) {
    const identifiers = [{ system: "race", value: `${round}` }];
    const [a, b] = [await create(), await create()];
    const answers = await Promise.all([
      batch([newcomer({ identifiers }), newcomer()]),
      batch([newcomer(), newcomer({ identifiers })]),
      batch([{ method: "patch", id: a.id, body: { identifiers } }]),
      batch([{ method: "patch", id: b.id, body: { identifiers } }]),
      admin.send("POST", "/patients?duplicates=allow", someBody({ identifiers })),
    ]);
    expect(answers.map(({ status }) => status).toSorted()).toEqual(
      [200, 409, 409, 409, 409].map((status) => (status === 200 && answers[4]?.status === 201 ? 201 : status)),
    );
    const { rows } = await service.db.pool.query("select patient_id from patient_identifiers where system = 'race' and value = $1", [
      `${round}`,
    ]);
    for (const { status, body } of answers) if (status === 409) expect(body.metadata.patientId).toBe(rows[0].patient_id);
  }
});

test("any batch leaves what its operations alone would leave", { timeout: 120_000 }, async () => {
  const record = fc.record({ sex: fc.constantFrom("female", "male"), name: fc.constantFrom("Ada King", "Bo Li", "Zoë O'Neill") });
  const step = fc.record({ method: fc.constantFrom("create", "replace", "patch", "delete"), record });
  const shape = async (id: string) => {
    const { rows } = await service.db.pool.query(
      `select name, sex, deleted_at is null as living, version::int, words::text, match_keys, (select count(*)::int from patient_versions where patient_id = id) as versions,
         (select array_agg(type order by id) from outbox where key = p.id::text) as events from patients p where id = $1`,
      [id],
    );
    const [row] = rows;
    // Addresses and record numbers differ from patient to patient.
    return { ...row, words: row.words.match(/'(ada|king|bo|li|zoe|o|neill|oneill|lovelace)'/g), match_keys: row.match_keys.length > 0 };
  };
  await fc.assert(
    fc.asyncProperty(fc.array(step, { minLength: 1, maxLength: 6 }), async (steps) => {
      const run = async (together: boolean) => {
        const ids: string[] = [];
        const operations: Record<string, unknown>[] = [];
        for (const { method, record: fields } of steps) {
          const body = method === "patch" ? fields : someBody(fields);
          if (method === "create") operations.push({ method, body });
          else operations.push({ method, id: (await create()).id, ...(method !== "delete" && { body }) });
        }
        if (together) ids.push(...(await batch(operations)).body.results.map(({ id }: { id: string }) => id));
        else
          for (const { method, id, body } of operations) {
            const verbs = { replace: "PUT", patch: "PATCH", delete: "DELETE" };
            const answer =
              method === "create"
                ? await create(body as Record<string, unknown>)
                : await admin.send(verbs[method as "patch"], `/patients/${id}`, body);
            ids.push((id as string | undefined) ?? answer.id);
          }
        return Promise.all(ids.map(shape));
      };
      expect(await run(true)).toEqual(await run(false));
    }),
    { numRuns: 25 },
  );
});

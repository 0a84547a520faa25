/** Transactions through the gateway: all of the requests are done, or none. */
import * as fc from "fast-check";
import type { Bundle, CapabilityStatement, OperationOutcome, Patient } from "fhir/r4.js";
import { afterAll, beforeAll, expect, test } from "vitest";
import { admin, startWithAdmin, stopPlatform } from "./admin.ts";
import { fhirPatient as patient } from "./client.ts";

beforeAll(startWithAdmin);
afterAll(stopPlatform);

const system = "urn:oid:1.2.3";
const identifier = () => ({ system, value: crypto.randomUUID() });
const by = ({ value }: { value: string }) => `identifier=${system}|${value}`;
const fhir = { "content-type": "application/fhir+json" };

async function transact(entry: object[], headers: Record<string, string> = {}) {
  const { status, body } = await admin.send(
    "POST",
    "/fhir/R4",
    { resourceType: "Bundle", type: "transaction", entry },
    { ...fhir, ...headers },
  );
  const bundle = body as Bundle;
  const [issue] = (body as OperationOutcome).issue ?? [];
  return {
    status,
    bundle,
    statuses: (bundle.entry ?? []).map(({ response }) => response?.status),
    refusal: { status, at: issue?.expression, why: issue?.details?.text },
  };
}
const create = async (more: object = {}) =>
  (await admin.send("POST", "/fhir/R4/Patient", patient("Before", more), fhir)).body as Patient & { id: string };
const read = async (id: string) => {
  const { status, body } = await admin.send("GET", `/fhir/R4/Patient/${id}`);
  return { status, body: body as Patient };
};
const put = (url: string, resource: object, more: object = {}) => ({ resource, request: { method: "PUT", url, ...more } });
const post = (resource: object, more: object = {}) => ({ resource, request: { method: "POST", url: "Patient", ...more } });
const remove = (url: string, more: object = {}) => ({ request: { method: "DELETE", url, ...more } });
const patch = (url: string, operations: unknown, more: object = {}) => ({
  resource: { resourceType: "Binary", contentType: "application/json-patch+json", data: btoa(JSON.stringify(operations)) },
  request: { method: "PATCH", url, ...more },
});
const setGender = [{ op: "add", path: "/gender", value: "female" }];
const countOf = async (value: string) => ((await admin.send("GET", `/fhir/R4/Patient?${by({ value })}`)).body as Bundle).total;

test("writes are done together and reads after them, with the answers in the order of the requests", async () => {
  // Through a port-forward, the gateway is at another address than the one that answers name.
  const { implementation } = (await admin.get("/fhir/R4/metadata")).body as CapabilityStatement;
  const [moved, known, absent] = [identifier(), identifier(), identifier()];
  const [changes, goes, there, replaced] = [
    await create(),
    await create({ identifier: [moved] }),
    await create({ identifier: [known] }),
    await create(),
  ];
  const { status, bundle, statuses } = await transact([
    { request: { method: "GET", url: `Patient/${changes.id}` } },
    patch(`Patient/${changes.id}`, setGender, { ifMatch: 'W/"1"' }),
    post(patient("Created", { identifier: [moved] })),
    post(patient("There", { identifier: [known] }), { ifNoneExist: by(known) }),
    put(`Patient?${by(absent)}`, patient("Put", { identifier: [absent] })),
    put(`Patient/${replaced.id}`, patient("Replaced", { id: replaced.id })),
    remove(`Patient?${by(moved)}`),
    { request: { method: "GET", url: `Patient?${by(absent)}` } },
    { request: { method: "GET", url: `Patient/${goes.id}` } },
  ]);
  expect({ status, type: bundle.type, statuses }).toEqual({
    ...{ status: 200, type: "transaction-response" },
    statuses: ["200 OK", "200 OK", "201 Created", "200 OK", "201 Created", "200 OK", "204 No Content", "200 OK", "410"],
  });
  const [first, patched, made, found, created, , deleted, search] = bundle.entry ?? [];
  expect(first?.resource).toMatchObject({ gender: "female", meta: { versionId: "2" } });
  expect(patched?.response).toEqual({
    ...{ status: "200 OK", etag: 'W/"2"', lastModified: expect.any(String) },
    location: `${implementation?.url}/Patient/${changes.id}/_history/2`,
  });
  expect(made?.resource).toMatchObject({ name: [{ family: "Created" }] });
  expect(found?.resource).toMatchObject({ id: there.id, name: [{ family: "Before" }] });
  expect(created?.resource).toMatchObject({ identifier: expect.arrayContaining([expect.objectContaining(absent)]) });
  expect(deleted).toEqual({ response: { status: "204 No Content", etag: 'W/"2"' } });
  expect(search?.resource).toMatchObject({ total: 1 });
  expect((await read(replaced.id)).body.name).toMatchObject([{ family: "Replaced" }]);
});

test("an answer has the resources, outcomes or nothing, as the caller prefers", async () => {
  for (const [wanted, parts] of [
    ["minimal", [false, false]],
    ["OperationOutcome", [false, true]],
    ["representation", [true, false]],
  ] as const) {
    const { bundle } = await transact([post(patient("Preferred"))], { prefer: `return=${wanted}` });
    const [entry] = bundle.entry ?? [];
    expect([entry?.resource !== undefined, entry?.response?.outcome !== undefined]).toEqual(parts);
  }
  expect((await transact([])).bundle).toEqual({ resourceType: "Bundle", type: "transaction-response" });
});

test("a request that cannot be done is named, and nothing is done", async () => {
  const taken = identifier();
  const [one, holder, gone] = [await create(), await create({ identifier: [taken] }), await create()];
  await admin.send("DELETE", `/fhir/R4/Patient/${gone.id}`);
  const nobody = crypto.randomUUID();
  const url = `Patient/${one.id}`;
  const cases: [entry: object, status: number, at: string][] = [
    [post(patient("Wrong", { birthDate: "yesterday" })), 422, ".resource.birthDate"],
    [post(patient("Wrong", { birthDate: "2999-01-01" })), 422, ".resource.birthDate"],
    [post(patient("Wrong", { identifier: [taken] })), 409, ".resource.identifier"],
    [post({ resourceType: "Observation" }), 422, ".resource"],
    [{ resource: { resourceType: "Observation" }, request: { method: "POST", url: "Observation" } }, 422, ".request.url"],
    [put(`Patient/${nobody}`, patient("Nobody", { id: nobody })), 405, ""],
    [put(`Patient/${gone.id}`, patient("Gone", { id: gone.id })), 410, ""],
    [put(`Patient/${holder.id}`, patient("Other", { id: nobody })), 400, ".resource.id"],
    [put(`Patient/${holder.id}`, patient("Late", { id: holder.id }), { ifMatch: 'W/"9"' }), 412, ""],
    [put(`Patient/${holder.id}`, patient("Late", { id: holder.id }), { ifMatch: "four" }), 400, ".request.ifMatch"],
    [put("Patient?name=x", patient("Condition")), 412, ""],
    [put(`Patient?${by({ value: nobody })}`, patient("Without")), 422, ".resource.identifier"],
    [patch(`Patient/${holder.id}`, [{ op: "test", path: "/gender", value: "other" }]), 422, ""],
    [patch(`Patient/${holder.id}`, "none"), 422, ".resource"],
    [remove(`Patient/${nobody}`), 404, ""],
    [remove(`Patient/${gone.id}`, { ifMatch: 'W/"1"' }), 412, ""],
    [remove(`Patient?${by({ value: nobody })}`, { ifMatch: 'W/"1"' }), 412, ""],
    [remove(`Patient/${holder.id}`, { ifMatch: 'W/"7"' }), 412, ""],
    [remove(url), 422, ".request.url"],
    [{ request: { method: "GET", url: "Patient/$export" } }, 422, ".request.url"],
  ];
  for (const [entry, status, at] of cases) {
    const created = identifier();
    const { refusal } = await transact([patch(url, setGender), post(patient("Not", { identifier: [created] })), entry]);
    expect([JSON.stringify(entry), refusal.status, refusal.at?.[0]]).toEqual([
      JSON.stringify(entry),
      status,
      expect.stringMatching(new RegExp(`^Bundle\\.entry\\[2\\]${at.replaceAll(".", "\\.")}`)),
    ]);
    expect(await countOf(created.value)).toBe(0);
  }
  expect((await read(one.id)).body.meta?.versionId).toBe("1");
  expect((await transact(Array(101).fill({ request: { method: "GET", url } }))).status).toBe(400);
});

test("deleting again changes nothing, by id and by identifier: in a transaction, in a batch and alone", async () => {
  const known = identifier();
  const gone = await create({ identifier: [known] });
  await admin.send("DELETE", `/fhir/R4/Patient/${gone.id}`);
  for (const url of [`Patient/${gone.id}`, `Patient?${by(known)}`]) {
    for (const type of ["transaction", "batch"]) {
      const entry = [remove(url), post(patient("Beside"))];
      const { status, body } = await admin.send("POST", "/fhir/R4", { resourceType: "Bundle", type, entry }, fhir);
      const statuses = ((body as Bundle).entry ?? []).map(({ response }) => response?.status);
      expect([url, type, status, statuses]).toEqual([url, type, 200, ["204 No Content", "201 Created"]]);
    }
    expect((await admin.send("DELETE", `/fhir/R4/${url}`)).status).toBe(204);
  }
  const stale = await admin.send("DELETE", `/fhir/R4/Patient?${by(known)}`, undefined, { "if-match": 'W/"1"' });
  expect([stale.status, (await read(gone.id)).status]).toEqual([412, 410]);
});

test("of deletions at once by the same identifier, all are done", async () => {
  const known = identifier();
  const { id } = await create({ identifier: [known] });
  const alone = Array.from({ length: 6 }, () => admin.send("DELETE", `/fhir/R4/Patient?${by(known)}`));
  const together = Array.from({ length: 6 }, () => transact([remove(`Patient?${by(known)}`)]));
  expect((await Promise.all([...alone, ...together])).map(({ status }) => status)).toEqual([...Array(6).fill(204), ...Array(6).fill(200)]);
  expect((await read(id)).status).toBe(410);
});

test("two requests that concern the same patient are refused, and both are named", async () => {
  const known = identifier();
  const { id } = await create({ identifier: [known] });
  const fresh = identifier();
  const pairs = [
    [patch(`Patient/${id}`, setGender), remove(`Patient/${id.toUpperCase()}`)],
    [put(`Patient?${by(known)}`, patient("One", { identifier: [known] })), remove(`Patient/${id}`)],
    [post(patient("One", { identifier: [known] }), { ifNoneExist: by(known) }), remove(`Patient?${by(known)}`)],
    [
      post(patient("One", { identifier: [fresh] }), { ifNoneExist: by(fresh) }),
      put(`Patient?${by(fresh)}`, patient("Two", { identifier: [fresh] })),
    ],
  ];
  for (const pair of pairs) {
    const { refusal } = await transact(pair);
    expect(refusal).toEqual({ status: 422, at: ["Bundle.entry[1].request.url"], why: expect.stringContaining("Bundle.entry[0]") });
  }
  expect([(await read(id)).body.meta?.versionId, await countOf(fresh.value)]).toEqual(["1", 0]);
});

test("a reference to another entry is that of its patient, and one that cannot be resolved is refused by name", async () => {
  const mother = await create();
  const [fullUrl, unknown] = [`urn:uuid:${crypto.randomUUID()}`, `urn:uuid:${crypto.randomUUID()}`];
  const child = (reference: string) =>
    post(patient("Child", { extension: [{ url: "https://example.com/mother", valueReference: { reference } }] }));
  const { bundle } = await transact([{ fullUrl, ...put(`Patient/${mother.id}`, patient("Mother", { id: mother.id })) }, child(fullUrl)]);
  expect(bundle.entry?.[1]?.resource).toMatchObject({
    extension: expect.arrayContaining([expect.objectContaining({ valueReference: { reference: `Patient/${mother.id}` } })]),
  });
  for (const [reference, first] of [
    [unknown, post(patient("Other"))],
    [fullUrl, { fullUrl, ...post(patient("Mother")) }],
    [`Patient?${by(identifier())}`, post(patient("Other"))],
  ] as const) {
    const { refusal } = await transact([first, child(reference)]);
    expect(refusal).toMatchObject({ status: 422, at: ["Bundle.entry[1].resource.extension[0].valueReference.reference"] });
  }
});

test("of 64 transactions at once that create the same patient unless there is one, one does", { timeout: 120_000 }, async () => {
  const same = identifier();
  const answers = await Promise.all(
    Array.from({ length: 64 }, () =>
      transact([post(patient("Same", { identifier: [same] }), { ifNoneExist: by(same) }), post(patient("Other"))]),
    ),
  );
  expect(answers.filter(({ statuses }) => statuses[0] === "201 Created")).toHaveLength(1);
  expect(answers.filter(({ statuses }) => statuses[0] === "200 OK")).toHaveLength(63);
  expect(await countOf(same.value)).toBe(1);
});

test("of transactions at once that change the same version, one is done and the others are 412", { timeout: 120_000 }, async () => {
  const { id } = await create();
  const changes = Array.from({ length: 16 }, () =>
    transact([patch(`Patient/${id}`, setGender, { ifMatch: 'W/"1"' }), post(patient("Beside"))]),
  );
  const statuses = (await Promise.all(changes)).map(({ status }) => status);
  expect(statuses.toSorted()).toEqual([200, ...Array(15).fill(412)]);
});

test("a transaction of any requests does everything or nothing", { timeout: 300_000 }, async () => {
  const kinds = fc.constantFrom("create", "createOr", "put", "putOr", "patch", "delete", "wrong", "late");
  const property = fc.asyncProperty(fc.array(kinds, { minLength: 1, maxLength: 6 }), async (chosen) => {
    const made = await Promise.all(
      chosen.map(async (kind) => {
        const own = identifier();
        const { id } = await create(kind === "putOr" || kind === "createOr" ? {} : { identifier: [own] });
        const resource = patient("After", { identifier: [own] });
        const url = `Patient/${id}`;
        const entry = {
          create: post(patient("After", { identifier: [{ ...own, value: `new-${own.value}` }] })),
          createOr: post(resource, { ifNoneExist: by(own) }),
          put: put(url, { ...resource, id }),
          putOr: put(`Patient?${by(own)}`, resource),
          patch: patch(url, setGender),
          delete: remove(url),
          wrong: post(patient("After", { birthDate: "2999-01-01" })),
          late: put(url, { ...resource, id }, { ifMatch: 'W/"7"' }),
        }[kind];
        return { kind, id, own, entry };
      }),
    );
    const { status } = await transact(made.map(({ entry }) => entry));
    const isDone = !chosen.some((kind) => kind === "wrong" || kind === "late");
    expect(status === 200).toBe(isDone);
    for (const { kind, id, own } of made) {
      const { status, body } = await read(id);
      const isNew =
        kind === "create" ? await countOf(`new-${own.value}`) : kind === "createOr" || kind === "putOr" ? await countOf(own.value) : 0;
      const hasChanged = isNew === 1 || status === 410 || body.meta?.versionId === "2";
      expect([kind, hasChanged]).toEqual([kind, isDone]);
    }
  });
  await fc.assert(property, { numRuns: 20 });
});

/** `$match`, `$everything` and what a search of patients includes, through the gateway. */
import { randomUUID } from "node:crypto";
import type { Bundle, BundleEntry, CapabilityStatement, FhirResource, OperationDefinition, OperationOutcome, Patient } from "fhir/r4.js";
import { afterAll, beforeAll, expect, test } from "vitest";
import { person } from "./client.ts";
import { charge, done, get, ids, newUser, platform, post, send, startScene, stopScene, user } from "./scene.ts";

beforeAll(startScene);
afterAll(stopScene);

const fhir = <Resource = Bundle>(path: string, token?: string): Promise<Resource> =>
  done({ ...get(`/fhir/R4/${path}`), ...(token !== undefined && { token }) });
const entriesOf = (mode: string, { entry = [] }: Bundle): BundleEntry[] => entry.filter(({ search }) => search?.mode === mode);
const named = ({ resource }: BundleEntry) => `${resource?.resourceType}/${resource?.id}`;
const issuesOf = (bundle: Bundle) =>
  entriesOf("outcome", bundle).flatMap(({ resource }) =>
    (resource as OperationOutcome).issue.map(({ code, details }) => [code, details?.text]),
  );

async function refused(call: ReturnType<typeof get>, headers: Record<string, string> = {}) {
  const { status, text } = await send(platform.gatewayUrl, { ...call, headers });
  return [status, ...(JSON.parse(text) as OperationOutcome).issue.map(({ expression, details }) => expression?.[0] ?? details?.text)];
}

const parameters = (...parameter: object[]) => ({ resourceType: "Parameters", parameter });
const wanted = (resource: object) => ({ name: "resource", resource: { resourceType: "Patient", ...resource } });
const match = (body: object, token?: string): Promise<Bundle> =>
  done({ ...post("/fhir/R4/Patient/$match", body), ...(token !== undefined && { token }) });

test("$match gives the best first, with how likely each is and its grade, of those whom the caller may see", async () => {
  const system = `urn:test:${randomUUID()}`;
  const someone = { ...person(), name: "Wilhelmina Fleming", dateOfBirth: "1957-05-15" };
  const certain = await done(post("/patients?duplicates=allow", { ...someone, identifiers: [{ system, value: "1" }] }));
  const other = await done(post("/patients?duplicates=allow", { ...person(), name: "Wilhelmina Fleming", dateOfBirth: "1957-05-15" }));
  const asked = { name: [{ given: ["Wilhelmina"], family: "Fleming" }], birthDate: "1957-05-15" };
  const withNumber = wanted({ ...asked, identifier: [{ system, value: "1" }] });
  const found = await match(parameters(withNumber));
  expect(found).toMatchObject({ type: "searchset", total: 2 });
  const [first, second] = entriesOf("match", found);
  expect([first?.resource?.id, second?.resource?.id]).toEqual([certain.id, other.id]);
  const url = "http://hl7.org/fhir/StructureDefinition/match-grade";
  expect(first?.search?.extension).toEqual([{ url, valueCode: "certain" }]);
  expect(["certain", "probable", "possible"]).toContain(second?.search?.extension?.[0]?.valueCode);
  for (const { search } of [first, second] as BundleEntry[]) expect(search?.score).toBeGreaterThanOrEqual(0.9);
  for (const { search } of [first, second] as BundleEntry[]) expect(search?.score).toBeLessThanOrEqual(1);
  expect(first?.search?.score).toBeGreaterThanOrEqual(second?.search?.score ?? 1);
  expect((await match(parameters(withNumber, { name: "count", valueInteger: 1 }))).total).toBe(1);
  const { token } = await newUser();
  expect(await match(parameters(withNumber), token)).toEqual({ resourceType: "Bundle", type: "searchset", total: 0 });
});

test("$match for certain matches only gives the one that is certain, and nobody if there are several", async () => {
  const only = { name: "onlyCertainMatches", valueBoolean: true };
  const [one, two] = [`urn:test:${randomUUID()}`, `urn:test:${randomUUID()}`];
  const first = await done(post("/patients?duplicates=allow", { ...person(), identifiers: [{ system: one, value: "1" }] }));
  await done(post("/patients?duplicates=allow", { ...person(), identifiers: [{ system: two, value: "2" }] }));
  const byOne = await match(parameters(wanted({ identifier: [{ system: one, value: "1" }] }), only));
  expect(entriesOf("match", byOne).map(({ resource }) => resource?.id)).toEqual([first.id]);
  const both = [
    { system: one, value: "1" },
    { system: two, value: "2" },
  ];
  expect((await match(parameters(wanted({ identifier: both }), only, { name: "count", valueInteger: 1 }))).total).toBe(0);
  expect((await match(parameters(wanted({ identifier: both })))).total).toBe(2);
});

test("what is wrong with the input of $match is named by its element", async () => {
  const wrong = (...parameter: object[]) => refused(post("/fhir/R4/Patient/$match", parameters(...parameter)));
  expect(await wrong()).toEqual([400, "Parameters.parameter"]);
  expect(await wrong({ name: "resorce" })).toEqual([400, "Parameters.parameter[0].name"]);
  expect(await wrong({ name: "count", valueInteger: 0 }, wanted({ gender: "male" }))).toEqual([400, "Parameters.parameter[0].value"]);
  expect(await wrong(wanted({ name: [{ family: "King" }] }), { name: "count", valueString: "5" })).toEqual([
    ...[400, "Parameters.parameter[1].value"],
  ]);
  expect(await wrong(wanted({ birthDate: "1.2.1985" }))).toEqual([422, "Parameters.parameter[0].resource.birthDate"]);
  expect(await wrong(wanted({ telecom: [{ system: "phone", value: "12" }] }))).toEqual([
    ...[422, "Parameters.parameter[0].resource.telecom[0].value"],
  ]);
  expect(await wrong(wanted({ gender: "male" }))).toEqual([422, "Parameters.parameter[0].resource"]);
});

/** The entries of all pages. */
async function everything(path: string, token?: string): Promise<{ all: BundleEntry[]; pages: number[]; first: Bundle }> {
  const found: BundleEntry[] = [];
  const pages: number[] = [];
  let first: Bundle | undefined;
  for (let next: string | undefined = path; next !== undefined; ) {
    const page: Bundle = await fhir(next, token);
    first ??= page;
    found.push(...entriesOf("match", page));
    pages.push(entriesOf("match", page).length);
    const link = page.link?.find(({ relation }) => relation === "next")?.url;
    next = link?.slice(link.indexOf("/fhir/R4/") + "/fhir/R4/".length);
  }
  return { all: found, pages, first: first as Bundle };
}

test("$everything gives all that belongs to a patient, page by page, while others write", async () => {
  await done({
    method: "PATCH",
    path: `/patients/${ids.patient}`,
    body: { contacts: [{ name: "Ralph" }, { name: "Anne" }, { name: "Byron" }] },
  });
  await charge(ids.account);
  const path = `Patient/${ids.patient}/$everything`;
  const { all } = await everything(path);
  expect(named(all[0] as BundleEntry)).toBe(`Patient/${ids.patient}`);
  const searched = await Promise.all(
    ["RelatedPerson", "Account", "ChargeItem", "Invoice", "PaymentReconciliation", "Provenance"].map(
      async (type) => entriesOf("match", await fhir(`${type}?patient=${ids.patient}&_count=200`)).map(named), // biome-ignore format: one chain
    ),
  );
  expect(new Set(all.map(named))).toEqual(new Set([`Patient/${ids.patient}`, ...searched.flat()]));
  expect(all.map(({ resource }) => (resource as FhirResource).resourceType)).toEqual(
    ["Patient", ...searched.flatMap((found) => found.map((each) => each.split("/")[0]))], // biome-ignore format: one chain
  );
  const first = await fhir(`${path}?_count=2`);
  const link = first.link?.find(({ relation }) => relation === "next")?.url ?? "";
  await charge(ids.account);
  await done({ method: "PATCH", path: `/patients/${ids.patient}`, body: { maritalStatus: "married" } });
  const later = await everything(link.slice(link.indexOf("/fhir/R4/") + "/fhir/R4/".length));
  const together = [...entriesOf("match", first), ...later.all].map(named);
  expect(new Set(together).size).toBe(together.length);
  for (const each of all.map(named)) expect(together).toContain(each);
  for (const size of later.pages) expect(size).toBeLessThanOrEqual(2);
  expect((await everything(`${path}?_type=Patient,Invoice`)).all.map(({ resource }) => resource?.resourceType)).toEqual([
    ...["Patient", "Invoice"],
  ]);
  const since = new Date(Date.now() + 60_000).toISOString();
  const types = new Set((await everything(`${path}?_since=${since}`)).all.map(({ resource }) => resource?.resourceType));
  expect(types).toEqual(new Set(["ChargeItem", "Invoice", "PaymentReconciliation"]));
  const posted: Bundle = await done(
    post(`/fhir/R4/${path}`, parameters({ name: "_type", valueCode: "Account" }, { name: "_count", valueInteger: 1 })),
  );
  expect(entriesOf("match", posted).map(named)).toEqual([`Account/${ids.account}`]);
});

test("$everything leaves out what the caller may not read, and says so; of a patient whom they may not see, it is 404", async () => {
  const { id } = await done({ ...post("/patients", person()), token: user.token });
  const { all, first } = await everything(`Patient/${id}/$everything`, user.token);
  expect(new Set(all.map(({ resource }) => resource?.resourceType))).toEqual(new Set(["Patient", "Provenance", ...accountTypes(all)]));
  expect(issuesOf(first)).toEqual(
    ["ChargeItem", "Invoice", "PaymentReconciliation"].map((type) => ["suppressed", expect.stringContaining(`${type} is left out`)]),
  );
  const { token } = await newUser();
  expect(await refused({ ...get(`/fhir/R4/Patient/${id}/$everything`), token })).toEqual([404, expect.any(String)]);
  expect(await refused({ ...get(`/fhir/R4/Patient/${id}/$everything?_cursor=x`), token })).toEqual([
    400,
    expect.stringMatching(/^_cursor: /),
  ]);
  const strict = { prefer: "handling=strict" };
  expect(await refused(get(`/fhir/R4/Patient/${id}/$everything?start=2026-01-01`), strict)).toEqual([
    400,
    expect.stringMatching(/^start: /),
  ]);
  expect(await refused(get(`/fhir/R4/Patient/${id}/$everything?_type=Patient,Observation`), strict)).toEqual([
    ...[400, expect.stringMatching(/^_type=Observation: /)],
  ]);
  expect(issuesOf(await fhir(`Patient/${id}/$everything?_type=Patient,Observation&start=2026-01-01`))).toEqual([
    ...[["not-supported", expect.stringMatching(/^start /)], ["not-supported", expect.stringMatching(/^_type=Observation /)]], // biome-ignore format: one list
  ]);
});

/** Whether billing has opened the account yet. */
const accountTypes = (all: BundleEntry[]) => (all.some(({ resource }) => resource?.resourceType === "Account") ? ["Account"] : []);

test("the server says which operations it has, and defines those that differ from those of HL7", async () => {
  const { rest = [] } = await fhir<CapabilityStatement>("metadata");
  const operations = rest[0]?.resource?.find(({ type }) => type === "Patient")?.operation ?? [];
  expect(operations.map(({ name }) => name)).toEqual(["match", "everything", "export"]);
  const own = operations.find(({ name }) => name === "everything")?.definition ?? "";
  const [found] = entriesOf("match", await fhir(`OperationDefinition?url=${own}`));
  const definition = await fhir<OperationDefinition>(`OperationDefinition/${found?.resource?.id}`);
  expect(definition).toMatchObject({ url: own, base: "http://hl7.org/fhir/OperationDefinition/Patient-everything", code: "everything" });
  expect(entriesOf("match", await fhir("OperationDefinition?name=patienteverything")).map(({ resource }) => resource)).toEqual([
    definition,
  ]);
  expect(entriesOf("match", await fhir("OperationDefinition?name=x"))).toEqual([]);
});

test("a search of patients includes their contacts and versions; what it cannot include is refused in strict handling", async () => {
  const { id } = await done(post("/patients", { ...person(), contacts: [{ name: "Ralph King" }] }));
  const path = `Patient?_id=${id}`;
  const page = await fhir(`${path}&_revinclude=RelatedPerson:patient&_revinclude=Provenance:target&_include=Patient:link`);
  expect(page.entry?.map((entry) => [entry.search?.mode, named(entry)])).toEqual([
    ...[["match", `Patient/${id}`], ["include", `RelatedPerson/${id}-1`], ["include", `Provenance/${id}-1`]], // biome-ignore format: a table
  ]);
  const unknown = "_include=Patient:organization&_revinclude=Account:subject";
  expect(issuesOf(await fhir(`${path}&${unknown}`)).map(([code]) => code)).toEqual(["not-supported", "not-supported"]);
  expect((await refused(get(`/fhir/R4/${path}&${unknown}`), { prefer: "handling=strict" })).slice(0, 2)).toEqual([
    ...[400, expect.stringMatching(/^_include=Patient:organization: /)],
  ]);
  expect((await refused(get(`/fhir/R4/Account?patient=${id}&_revinclude=ChargeItem:account`), { prefer: "handling=strict" }))[0]).toBe(400);
});

test("the links of merged records are read both ways, in reads, versions, searches and inclusions", async () => {
  const one = await done(post("/patients?duplicates=allow", person()));
  const other = await done(post("/patients?duplicates=allow", person()));
  const merge = post(`/patients/${one.id}:merge`, { duplicateId: other.id, duplicateVersion: 1 });
  await done({ ...merge, headers: { "if-match": '"1"' } });
  const replaces = [{ other: { reference: `Patient/${other.id}` }, type: "replaces" }];
  const replacedBy = [{ other: { reference: `Patient/${one.id}` }, type: "replaced-by" }];
  const links = async (path: string) => {
    const { active, link } = await fhir<Patient>(path);
    return [active, link];
  };
  expect(await links(`Patient/${one.id}`)).toEqual([true, replaces]);
  expect(await links(`Patient/${one.id}/_history/2`)).toEqual([true, replaces]);
  expect(await links(`Patient/${one.id}/_history/1`)).toEqual([true, undefined]);
  expect(await links(`Patient/${other.id}`)).toEqual([false, replacedBy]);
  expect(entriesOf("match", await fhir(`Patient?link=Patient/${one.id}`)).map(named)).toEqual([`Patient/${other.id}`]);
  const found = await fhir(`Patient?link=Patient/${other.id}&_include=Patient:link`);
  expect(found.entry?.map((entry) => [entry.search?.mode, named(entry)])).toEqual([
    ...[["match", `Patient/${one.id}`], ["include", `Patient/${other.id}`]], // biome-ignore format: a table
  ]);
  const survivor = await fhir<Patient>(`Patient/${one.id}`);
  expect(await done({ method: "PUT", path: `/fhir/R4/Patient/${one.id}`, body: survivor })).toEqual(survivor);
  const all = await fhir(`Patient/${other.id}/$everything`);
  expect(entriesOf("match", all).map(({ resource }) => resource?.resourceType)).toEqual(["Patient", "Provenance"]);
  expect(issuesOf(all)).toEqual([["informational", expect.stringContaining(`Patient/${one.id}`)]]);
});

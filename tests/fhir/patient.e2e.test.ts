/** Patients as a FHIR client meets them, through the gateway. */
import { randomUUID } from "node:crypto";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type Platform, startPlatform } from "@pm/stack/platform";
import type { Bundle, OperationOutcome, Patient } from "fhir/r4.js";
import { afterAll, beforeAll, expect, test } from "vitest";
import { type Client, logIn } from "../e2e/client.ts";

let platform: Platform;
let client: Client;
const dataDir = mkdtempSync(join(tmpdir(), "pm-fhir-"));

beforeAll(async () => {
  const patient = { EMAIL_REQUIRED: "false", ADDRESS_REQUIRED: "false", DATE_OF_BIRTH_PRECISION: "year" };
  platform = await startPlatform({ dataDir, durable: false, env: { patient } });
  client = await logIn(platform);
});
afterAll(async () => {
  await platform?.stop();
  rmSync(dataDir, { recursive: true, force: true });
});

const root = "/fhir/R4/Patient";
const fhirJson = { "content-type": "application/fhir+json; charset=UTF-8" };

async function send<Body = Patient>(method: string, path: string, body?: unknown, headers: Record<string, string> = {}) {
  const answer = await client.send(method, path, body, { ...(body !== undefined && fhirJson), ...headers });
  if (answer.status >= 400) expect((answer.body as Body & { resourceType: string }).resourceType).toBe("OperationOutcome");
  return { ...answer, body: answer.body as Body };
}

const race = {
  url: "http://hl7.org/fhir/us/core/StructureDefinition/us-core-race",
  extension: [{ url: "text", valueString: "White" }],
};
const unknown = { url: "http://hl7.org/fhir/StructureDefinition/data-absent-reason", valueCode: "unknown" };
const ada = (): Patient => ({
  resourceType: "Patient",
  extension: [race],
  identifier: [
    {
      type: { coding: [{ system: "http://terminology.hl7.org/CodeSystem/v2-0203", code: "SS" }] },
      system: "http://hl7.org/fhir/sid/us-ssn",
      value: randomUUID(),
    },
  ],
  name: [
    { use: "old", family: "Byron", given: ["Ada"] },
    { use: "official", family: "King", given: ["Ada", "Augusta"], prefix: ["Lady"] },
  ],
  telecom: [{ system: "phone", value: "(217) 555-0123", use: "mobile", rank: 1 }],
  gender: "female",
  birthDate: "1985-12-10",
  deceasedDateTime: "2020-11-27T10:00:00+01:00",
  address: [{ use: "home", line: ["1 Main St", "Apt 4"], city: "Springfield", state: "IL", postalCode: "62701", country: "US" }],
  maritalStatus: { coding: [{ system: "http://terminology.hl7.org/CodeSystem/v3-MaritalStatus", code: "M" }], text: "Married" },
  multipleBirthBoolean: false,
});
const created = async () => (await send("POST", root, ada())).body;
const outcome = (body: unknown) =>
  (body as OperationOutcome).issue.map(({ code, expression }) => [code, ...(expression ?? [])] as string[]);

test("a resource is created, read as it was written, and shown by our own API", async () => {
  const sent = ada();
  const { status, headers, body } = await send("POST", root, sent);
  expect([status, headers.get("etag"), headers.get("content-type")]).toEqual([201, 'W/"1"', "application/fhir+json; fhirVersion=4.0"]);
  expect(headers.get("location")).toBe(`${platform.gatewayUrl}${root}/${body.id}/_history/1`);
  const read = await send("GET", `${root}/${body.id}`);
  expect(read.body).toEqual(body);
  const { telecom = [], identifier = [], name = [], ...others } = read.body;
  const { telecom: _telecom, identifier: _identifier, name: _name, ...same } = sent;
  expect(others).toMatchObject({ ...same, extension: expect.arrayContaining([race]) });
  expect(telecom).toMatchObject([{ system: "phone", value: "+12175550123", use: "mobile", rank: 1 }]);
  expect(identifier).toMatchObject([{ system: expect.stringMatching(/identifiers\/mrn$/) }, sent.identifier?.[0] ?? {}]);
  expect(name).toMatchObject([sent.name?.[1] ?? {}, sent.name?.[0] ?? {}]);
  expect((await client.get(`/patients/${body.id}`)).body).toMatchObject({
    ...{ name: "Ada Augusta King", phoneNumber: "+12175550123", sex: "female", deceased: "2020-11-27", maritalStatus: "married" },
    address: { street: "1 Main St, Apt 4", city: "Springfield" },
  });
});

test("a version that is known is 304, another one is 412, and XML is 406", async () => {
  const { id, meta } = await created();
  const path = `${root}/${id}`;
  for (const known of [{ "if-none-match": 'W/"1"' }, { "if-modified-since": new Date().toUTCString() }] as Record<string, string>[])
    expect((await send("GET", path, undefined, known)).status).toBe(304);
  expect((await send("GET", path, undefined, { "if-modified-since": new Date(0).toUTCString() })).headers.get("last-modified")).toBe(
    new Date(meta?.lastUpdated ?? "").toUTCString(),
  );
  const lost = await send("PUT", path, { ...ada(), id }, { "if-match": 'W/"7"' });
  expect([lost.status, outcome(lost.body)]).toEqual([412, [["conflict"]]]);
  for (const [query, accept] of [
    ["", "application/fhir+xml"],
    ["?_format=xml", "application/json"],
  ] as const) {
    const xml = await send("GET", path + query, undefined, { accept });
    expect([xml.status, outcome(xml.body)]).toEqual([406, [["not-supported"]]]);
  }
  expect((await send("GET", `${path}?_format=json&_elements=birthDate`)).body).toEqual({
    ...{ resourceType: "Patient", id, birthDate: "1985-12-10" },
    meta: { ...meta, tag: [expect.objectContaining({ code: "SUBSETTED" })] },
  });
});

test("an update replaces all, and writing what was read changes nothing", async () => {
  const body = await created();
  const path = `${root}/${body.id}`;
  const same = await send("PUT", path, body);
  expect([same.status, same.body]).toEqual([200, body]);
  const { id } = body;
  const smaller = await send(
    "PUT",
    path,
    { resourceType: "Patient", id, name: [{ text: "Ada" }], birthDate: "1985" },
    { "if-match": 'W/"1"' },
  );
  expect(smaller.body).toEqual({
    ...{ resourceType: "Patient", id, meta: expect.objectContaining({ versionId: "2" }), active: true },
    extension: [body.extension?.find(({ url }) => url.endsWith("registered-date")), unknown],
    identifier: [body.identifier?.[0]],
    name: [{ id: expect.any(String), text: "Ada", extension: [unknown] }],
    birthDate: "1985",
    gender: "unknown",
  });
  const unchanged = await send("PUT", path, smaller.body);
  expect([unchanged.body.meta?.versionId, (await client.get(`/patients/${id}`)).body]).toEqual([
    "2",
    expect.not.objectContaining({ sex: expect.anything() }),
  ]);
  expect((await send("PUT", path, { ...body, id: randomUUID() })).status).toBe(400);
  const nobody = randomUUID();
  expect((await send("PUT", `${root}/${nobody}`, { ...ada(), id: nobody })).status).toBe(405);
});

test("what is wrong is named as FHIRPath, whoever finds it", async () => {
  const wrong = await send("POST", root, { ...ada(), birthDate: "1985-13-10", nmae: 1 });
  expect([wrong.status, outcome(wrong.body)]).toEqual([
    422,
    [
      ["processing", "Patient.birthDate"],
      ["processing", "Patient.nmae"],
    ],
  ]);
  const telecom = [
    { system: "fax", value: "1" },
    { system: "phone", value: "12" },
  ];
  const { birthDate: _, ...unborn } = ada();
  const later = await send("POST", root, { ...unborn, telecom });
  expect(outcome(later.body)).toEqual([
    ["processing", "Patient.telecom[1].value"],
    ["processing", "Patient.birthDate"],
  ]);
  expect((await send("POST", root, "{")).status).toBe(400);
});

test("a JSON Patch changes the resource as it is read, all of it or nothing", async () => {
  const { id } = await created();
  const patch = (operations: object[]) => send("PATCH", `${root}/${id}`, operations, { "content-type": "application/json-patch+json" });
  const done = await patch([
    { op: "test", path: "/gender", value: "female" },
    { op: "replace", path: "/name/0/family", value: "Lovelace" },
    { op: "remove", path: "/multipleBirthBoolean" },
  ]);
  expect([done.status, done.body.name?.[0]?.family, done.body.multipleBirthBoolean, done.body.meta?.versionId]).toEqual([
    200,
    "Lovelace",
    undefined,
    "2",
  ]);
  expect(
    (
      await patch([
        { op: "replace", path: "/gender", value: "other" },
        { op: "test", path: "/gender", value: "male" },
      ])
    ).status,
  ).toBe(422);
  expect((await patch([{ op: "replace", path: "/id", value: "1" }])).status).toBe(422);
  expect((await send("GET", `${root}/${id}`)).body.gender).toBe("female");
});

test("deleted is 410, deleting again changes nothing, and the history has every version", async () => {
  const { id } = await created();
  const path = `${root}/${id}`;
  await send("PUT", path, { ...ada(), id });
  expect([(await send("DELETE", path)).status, (await send("DELETE", path)).status, (await send("GET", path)).status]).toEqual([
    204, 204, 410,
  ]);
  expect((await send("DELETE", `${root}/${randomUUID()}`)).status).toBe(404);
  const { body } = await send<Bundle>("GET", `${path}/_history`);
  expect(body.entry?.map(({ request, response, resource }) => [request?.method, response?.etag, resource?.resourceType])).toEqual([
    ["DELETE", 'W/"3"', undefined],
    ["PUT", 'W/"2"', "Patient"],
    ["POST", 'W/"1"', "Patient"],
  ]);
  expect([(await send("GET", `${path}/_history/1`)).body.meta?.versionId, (await send("GET", `${path}/_history/3`)).status]).toEqual([
    "1",
    410,
  ]);
  const since = body.entry?.[1]?.response?.lastModified;
  expect((await send<Bundle>("GET", `${path}/_history?_since=${since}`)).body.entry).toHaveLength(2);
});

test("the history of all patients goes on where it ended", async () => {
  const first = await send<Bundle>("GET", `${root}/_history?_count=1`);
  const lastUpdated = first.body.meta?.lastUpdated ?? "";
  const { id } = await created();
  const seen: string[] = [];
  let next: string | undefined = `${platform.gatewayUrl}${root}/_history?_since=${lastUpdated}&_count=2&_sort=_lastUpdated`;
  while (next) {
    const { body }: { body: Bundle } = await send<Bundle>("GET", next.replace(platform.gatewayUrl, ""));
    seen.push(...(body.entry ?? []).map(({ fullUrl, response }) => `${fullUrl?.split("/").at(-1)} ${response?.status}`));
    next = body.link?.find(({ relation }) => relation === "next")?.url;
  }
  expect(seen).toContain(`${id} 201`);
});

test("conditions on an identifier: of many at once one is created, and update and delete find it", async () => {
  const body = ada();
  const query = `identifier=${body.identifier?.[0]?.system}|${body.identifier?.[0]?.value}`;
  const answers = await Promise.all(Array.from({ length: 5 }, () => send("POST", root, body, { "if-none-exist": query })));
  expect(answers.map(({ status }) => status).sort()).toEqual([200, 200, 200, 200, 201]);
  const [id] = new Set(answers.map((answer) => answer.body.id));
  const updated = await send("PUT", `${root}?${query}`, { ...body, gender: "other" });
  expect([updated.status, updated.body.id, updated.body.gender]).toEqual([200, id, "other"]);
  expect((await send("POST", root, body, { "if-none-exist": "name=King" })).status).toBe(412);
  expect([(await send("DELETE", `${root}?${query}`)).status, (await send("DELETE", `${root}?${query}`)).status]).toEqual([204, 204]);
  expect((await send("PUT", `${root}?${query}`, body)).status).toBe(201);
});

test("a caller reads what they prefer", async () => {
  const minimal = await send("POST", root, ada(), { prefer: "return=minimal" });
  expect([minimal.status, minimal.text, minimal.headers.has("location")]).toEqual([201, "", true]);
  const told = await send("POST", root, ada(), { prefer: "return=OperationOutcome" });
  expect([told.status, outcome(told.body)]).toEqual([201, [["informational"]]]);
});

test("one who was merged says into whom", async () => {
  const [survivor, duplicate] = [await created(), await created()];
  const merged = await client.send(
    "POST",
    `/patients/${survivor.id}:merge`,
    { duplicateId: duplicate.id, duplicateVersion: 1 },
    { "if-match": '"1"' },
  );
  expect(merged.status, merged.text).toBe(200);
  const { body } = await send("GET", `${root}/${duplicate.id}`);
  expect([body.id, body.active, body.link]).toEqual([
    duplicate.id,
    false,
    [{ other: { reference: `Patient/${survivor.id}` }, type: "replaced-by" }],
  ]);
});

test("the server describes itself to everybody", async () => {
  const of = async (path: string) => (await fetch(`${platform.gatewayUrl}/fhir/R4/${path}`)).json() as Promise<Record<string, unknown>>;
  expect(await of("metadata")).toMatchObject({ resourceType: "CapabilityStatement", fhirVersion: "4.0.1", kind: "instance" });
  expect(await of(".well-known/smart-configuration")).toMatchObject({
    token_endpoint: `${platform.gatewayUrl}/auth/token`,
    grant_types_supported: ["client_credentials"],
    token_endpoint_auth_methods_supported: expect.arrayContaining(["private_key_jwt"]),
    capabilities: ["client-confidential-asymmetric"],
  });
});

/** Searches for patients, through the gateway: what FHIR, US Core and IPA ask of them. */
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
const dataDir = mkdtempSync(join(tmpdir(), "pm-fhir-search-"));
const root = "/fhir/R4/Patient";
const ids: Record<string, string> = {};

const person = (given: string, family: string, birthDate: string, more: Partial<Patient>): Patient => ({
  resourceType: "Patient",
  name: [{ use: "official", given: [given], family }],
  birthDate,
  ...more,
});
const ssn = "http://hl7.org/fhir/sid/us-ssn";
const people = [
  person("Ada", "King", "1985-12-10", {
    gender: "female",
    identifier: [{ system: ssn, value: "123-45-6789" }],
    telecom: [
      { system: "email", value: "ada@example.com" },
      { system: "phone", value: "+12175550123" },
    ],
    address: [{ line: ["1 Main St"], city: "Springfield", state: "IL", postalCode: "62701", country: "US" }],
  }),
  person("Zoë", "Kingston", "1985", { gender: "female", deceasedBoolean: true }),
  person("Max", "Müller", "1990-05-12", {
    gender: "male",
    identifier: [{ system: "urn:oid:1.2.3", value: "123-45-6789" }],
    telecom: [{ system: "phone", value: "+442071234567" }],
    address: [{ text: "Bahnhofstrasse 1, Zürich", city: "Zürich", country: "CH" }],
  }),
];

beforeAll(async () => {
  const patient = { EMAIL_REQUIRED: "false", ADDRESS_REQUIRED: "false", DATE_OF_BIRTH_PRECISION: "year" };
  platform = await startPlatform({ dataDir, durable: false, env: { patient } });
  client = await logIn(platform);
  for (const one of people) {
    const { status, body, text } = await client.send("POST", root, one);
    expect(status, text).toBe(201);
    ids[one.name?.[0]?.given?.[0] ?? ""] = (body as Patient).id ?? "";
  }
});
afterAll(async () => {
  await platform?.stop();
  rmSync(dataDir, { recursive: true, force: true });
});

async function ask(query: string, headers: Record<string, string> = {}) {
  const { status, body } = await client.get(`${root}?${query}`, headers);
  return { status, bundle: body as Bundle, outcome: body as OperationOutcome };
}
/** The first names of those who are found, in their order. */
async function found(query: string): Promise<string[]> {
  const { status, bundle } = await ask(query);
  expect([query, status]).toEqual([query, 200]);
  const matches = (bundle.entry ?? []).filter(({ search }) => search?.mode === "match").map(({ resource }) => resource as Patient);
  return matches.map(({ name }) => name?.[0]?.given?.[0] ?? "");
}

test.each([
  ["family=king", ["Ada", "Zoë"]],
  ["family:exact=King", ["Ada"]],
  ["family:contains=ller", ["Max"]],
  ["family=muller", ["Max"]],
  ["given=zoe", ["Zoë"]],
  ["name=king", ["Ada", "Zoë"]],
  ["name=ada,max", ["Ada", "Max"]],
  ["name=king&name=ada", ["Ada"]],
  [`identifier=${ssn}|123-45-6789`, ["Ada"]],
  ["identifier=123-45-6789", ["Ada", "Max"]],
  [`identifier=${ssn}|`, ["Ada"]],
  ["identifier=|123-45-6789", []],
  ["birthdate=1985-12-10", ["Ada"]],
  ["birthdate=1985", ["Ada", "Zoë"]],
  ["birthdate=gt1985-12-31", ["Max"]],
  ["birthdate=ge1985-01-01&birthdate=le1985-12-31", ["Ada", "Zoë"]],
  ["family=king&birthdate=1985-12-10", ["Ada"]],
  ["gender=female", ["Ada", "Zoë"]],
  ["gender=male&name=max", ["Max"]],
  ["birthdate=1990-05-12&name=max", ["Max"]],
  ["email=ada@example.com", ["Ada"]],
  ["phone=%2B12175550123", ["Ada"]],
  ["telecom=phone|%2B442071234567", ["Max"]],
  ["telecom=ada@example.com", ["Ada"]],
  ["phone:missing=true", ["Zoë"]],
  ["address=bahnhof", ["Max"]],
  ["address-city=springfield", ["Ada"]],
  ["address-state=IL", ["Ada"]],
  ["address-postalcode=627", ["Ada"]],
  ["address-country=CH", ["Max"]],
  ["deceased=true", ["Zoë"]],
  ["deceased=false", ["Ada", "Max"]],
  ["active=true", ["Ada", "Zoë", "Max"]],
  ["active=false", []],
  ["_id:missing=true", []],
])("%s", async (query, names) => {
  expect((await found(query)).sort()).toEqual([...names].sort());
});

test("by id, also several", async () => {
  expect(await found(`_id=${ids.Ada}`)).toEqual(["Ada"]);
  expect((await found(`_id=${ids.Ada},${ids.Max},${randomUUID()}`)).sort()).toEqual(["Ada", "Max"]);
});

test("in order, page by page, counted", async () => {
  expect(await found("_sort=-birthdate")).toEqual(["Max", "Ada", "Zoë"]);
  expect(await found("_sort=family")).toEqual(["Ada", "Zoë", "Max"]);
  const first = await ask("_sort=family&_count=2&_total=accurate&_elements=name");
  expect([first.bundle.total, first.bundle.entry?.length]).toEqual([3, 2]);
  expect(Object.keys(first.bundle.entry?.[0]?.resource ?? {}).sort()).toEqual(["id", "meta", "name", "resourceType"]);
  const next = first.bundle.link?.find(({ relation }) => relation === "next")?.url.replace(`${platform.gatewayUrl}${root}?`, "");
  const second = await ask(next ?? "");
  expect([second.bundle.entry?.length, second.bundle.link?.map(({ relation }) => relation)]).toEqual([1, ["self"]]);
  for (const query of ["_summary=count", "_count=0"]) {
    const { bundle } = await ask(query);
    expect([bundle.total, bundle.entry]).toEqual([3, undefined]);
  }
});

test("by POST as by GET", async () => {
  const form = { "content-type": "application/x-www-form-urlencoded" };
  const { status, body } = await client.send("POST", `${root}/_search?gender=female`, "family=king&family=kingst", form);
  expect([status, (body as Bundle).total]).toEqual([200, 1]);
});

test("the pages of a form are linked without its names, and have the same patients in the same order", async () => {
  const form = { "content-type": "application/x-www-form-urlencoded" };
  const { body } = await client.send("POST", `${root}/_search`, "gender=female,male&_sort=birthdate&_count=1&_elements=name", form);
  const found: unknown[] = [];
  for (let bundle: Bundle | undefined = body as Bundle; bundle; ) {
    found.push(...(bundle.entry ?? []).map(({ resource }) => resource?.id));
    const next: string | undefined = bundle.link?.find(({ relation }) => relation === "next")?.url;
    if (next === undefined) break;
    const { searchParams, search } = new URL(next);
    expect([...searchParams.keys()]).toEqual(["_count", "_elements", "_cursor"]);
    const page: { status: number; bundle: Bundle } = await ask(search.slice(1));
    expect(page.status).toBe(200);
    bundle = page.bundle;
  }
  expect(found).toEqual([ids.Zoë, ids.Ada, ids.Max]);
});

test("what is not known is ignored and said, or refused where strictness is preferred", async () => {
  const { bundle } = await ask("family=king&shoe-size=43");
  expect(bundle.link?.[0]?.url).toBe(`${platform.gatewayUrl}${root}?family=king`);
  expect(JSON.stringify(bundle.entry?.at(-1)?.resource)).toContain("shoe-size");
  expect((await ask("shoe-size=43", { prefer: "handling=strict" })).status).toBe(400);
  const wrong = await ask("family:soundex=king&birthdate=yesterday");
  expect([wrong.status, wrong.outcome.resourceType]).toEqual([400, "OperationOutcome"]);
});

test("a client that polls by _lastUpdated gets what changed since", async () => {
  const { bundle } = await ask("_lastUpdated=ge2020-01-01");
  expect(bundle.entry).toHaveLength(3);
  const since = bundle.meta?.lastUpdated ?? "";
  await client.send("PATCH", `${root}/${ids.Max}`, [{ op: "replace", path: "/gender", value: "other" }], {
    "content-type": "application/json-patch+json",
  });
  expect(await found(`_lastUpdated=ge${since}`)).toContain("Max");
  expect(await found("_lastUpdated=lt2020-01-01")).toEqual([]);
});

test("a form with many values pages to its end, or is refused at its first page", async () => {
  const form = { "content-type": "application/x-www-form-urlencoded" };
  const others = Array.from({ length: 190 }, () => randomUUID());
  const search = (name: string, values: string[]) =>
    client.send("POST", `${root}/_search`, new URLSearchParams({ [name]: values.join(","), _count: "1" }).toString(), form);
  const seen: (string | undefined)[] = [];
  let { status, body } = await search("_id", [...Object.values(ids).slice(0, 3), ...others]);
  for (let next: string | undefined = ""; next !== undefined; ) {
    expect(status).toBe(200);
    const bundle = body as Bundle;
    seen.push(...(bundle.entry ?? []).map(({ resource }) => resource?.id));
    next = bundle.link?.find(({ relation }) => relation === "next")?.url;
    if (next !== undefined) ({ status, body } = await client.send("GET", next.replace(platform.gatewayUrl, "")));
  }
  expect(seen.toSorted()).toEqual(Object.values(ids).slice(0, 3).toSorted());
  const long = await search("address", ["springfield", "zürich", ...others.map((other) => `${other} ${randomUUID()} ${randomUUID()}`)]);
  expect([long.status, (long.body as OperationOutcome).issue[0]?.details?.text]).toEqual([400, expect.stringMatching(/too long|link/)]);
  const many = await search("_id", [...others, ...others]);
  expect([many.status, (many.body as OperationOutcome).issue[0]?.details?.text]).toEqual([400, expect.stringMatching(/^_id: /)]);
});

test("merged records are found if they are asked for", async () => {
  const { body } = await client.send("POST", root, person("Twin", "King", "1985-12-10", {}));
  const { id } = body as Patient;
  const merge = { duplicateId: id, duplicateVersion: 1 };
  const { status, text } = await client.send("POST", `/patients/${ids.Ada}:merge`, merge, { "if-match": '"1"' });
  expect(status, text).toBe(200);
  // The survivor has got their name.
  expect(await found("given=twin")).toEqual(["Ada"]);
  expect(await found("active=false")).toEqual(["Twin"]);
  expect(await found(`link=Patient/${ids.Ada}`)).toEqual(["Twin"]);
});

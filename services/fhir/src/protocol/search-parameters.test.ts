import { expect, test } from "vitest";
import { searchset, subset } from "./bundle.ts";
import { dateOf, describeParameters, readSearch, referenceOf, sinceOf, tokenOf } from "./search-parameters.ts";

const definitions = {
  family: { type: "string", modifiers: ["exact", "contains"] },
  birthdate: { type: "date" },
  identifier: { type: "token" },
} as const;
const read = (query: string, handling: "strict" | "lenient" = "lenient") => readSearch(new URLSearchParams(query), definitions, handling);
const fieldsOf = (call: () => unknown) => {
  try {
    return call();
  } catch (error) {
    return (error as { options: { errors: { path: string }[] } }).options.errors.map(({ path }) => path);
  }
};

test("commas separate values, and parameters that are repeated are conditions of their own", () => {
  expect(read("family=King,Queen\\,%20II&family:exact=x&_count=9999&_sort=-birthdate,family")).toMatchObject({
    criteria: [
      { name: "family", values: ["King", "Queen, II"] },
      { name: "family", modifier: "exact", values: ["x"] },
    ],
    count: 200,
    sort: [
      { name: "birthdate", descending: true },
      { name: "family", descending: false },
    ],
  });
});

test("an unknown parameter is ignored or, in strict handling, refused; an unknown modifier always is", () => {
  expect(read("colour=red").ignored).toEqual(["colour"]);
  expect(fieldsOf(() => read("colour=red", "strict"))).toEqual(["colour"]);
  expect(fieldsOf(() => read("family:sounds=red&birthdate:missing=perhaps&_total=all"))).toEqual([
    "family:sounds",
    "birthdate:missing",
    "_total",
  ]);
});

test.each([
  "family=A%00",
  "family:exact=A%1f",
  "identifier=a|%c2%80",
  "birthdate=2026,yesterday",
  "birthdate=2026-1",
  "_cursor=%0a",
  "_sort=a%00",
  "_include=%7f",
  "_elements=%00",
  "_total=some",
  "_count=-1",
])("%s is refused by the name of its parameter", (query) => {
  expect(fieldsOf(() => read(query))).toEqual([query.split("=")[0]]);
});

test("documents show the pattern of each parameter, by which they are checked", () => {
  const patterns = Object.fromEntries(describeParameters(definitions).map(({ name, schema }) => [name, new RegExp(schema.pattern)]));
  const fits = (name: string, text: string) => patterns[name]?.test(text);
  expect(["", "2026", "ge2026-05,lt2026-05-12T09:30:01.5+01:00"].every((text) => fits("birthdate", text))).toBe(true);
  expect(["x2026", "2026-5", "2026,"].some((text) => fits("birthdate", text))).toBe(false);
  expect([fits("family", "Ada, Ada\\u007f"), fits("family", "Ada\u007f"), fits("_total", "accurate"), fits("_total", "x")]).toEqual([
    true,
    false,
    true,
    false,
  ]);
});

test.each([
  ["a|b", { system: "a", code: "b" }],
  ["|b", { system: "", code: "b" }],
  ["a|", { system: "a" }],
  ["b", { code: "b" }],
  ["a|b\\|c", { system: "a", code: "b|c" }],
])("the token %s", (text, token) => {
  expect(tokenOf(text)).toEqual(token);
});

test.each([
  ["2026", "eq", "2026-01-01T00:00:00.000Z", "2027-01-01T00:00:00.000Z"],
  ["ge2026-02", "ge", "2026-02-01T00:00:00.000Z", "2026-03-01T00:00:00.000Z"],
  ["ap2026-02-28", "ap", "2026-02-28T00:00:00.000Z", "2026-03-01T00:00:00.000Z"],
  ["lt2026-02-28T09:30+01:00", "lt", "2026-02-28T08:30:00.000Z", "2026-02-28T08:31:00.000Z"],
  ["2026-02-28T09:30:01.5Z", "eq", "2026-02-28T09:30:01.500Z", "2026-02-28T09:30:01.501Z"],
])("the date %s is a span of time", (text, prefix, start, end) => {
  expect(dateOf("birthdate", text)).toMatchObject({ prefix, start: new Date(start), end: new Date(end) });
});

test.each(["2026-02-30", "0000", "xx2026", "yesterday", "2026-1"])("%s is no date", (text) => {
  expect(fieldsOf(() => dateOf("birthdate", text))).toEqual(["birthdate"]);
});

test("a reference may be an id, a type with an id, or a URL of this server", () => {
  const base = "https://clinic.example/fhir/R4";
  expect(
    ["1", "Patient/1", `${base}/Patient/1`, "Practitioner/1", "https://other.example/Patient/1"].map((text) =>
      referenceOf(text, "Patient", base),
    ),
  ).toEqual(["1", "1", "1", undefined, undefined]);
});

test("_since is one instant, or a day, without a prefix", () => {
  const since = (query: string) => sinceOf(readSearch(new URLSearchParams(query), { _since: { type: "date" } }, "lenient"))?.toISOString();
  expect([since("_count=1"), since("_since=2026-01-28"), since("_since=2026-01-28T09:30:00%2B02:00")]).toEqual([
    undefined,
    "2026-01-28T00:00:00.000Z",
    "2026-01-28T07:30:00.000Z",
  ]);
  for (const wrong of ["_since=gt2026-01-28", "_since=2026-01-28,2026-01-29", "_since=2026-01-28&_since=2026-01-29", "_since=2026-02-30"])
    expect(fieldsOf(() => since(wrong))).toEqual(["_since"]);
});

test("a page links to itself and to the next one by what was understood", () => {
  const url = "https://clinic.example/fhir/R4/Patient";
  const search = read("family=King&colour=red&_count=1&_cursor=abc");
  const { link, entry, total } = searchset("https://clinic.example/fhir/R4", url, search, {
    matches: [{ resourceType: "Patient", id: "1" }],
    total: 3,
    next: "def",
  });
  expect([link, total]).toEqual([
    [
      { relation: "self", url: `${url}?family=King&_count=1&_cursor=abc` },
      { relation: "next", url: `${url}?family=King&_count=1&_cursor=def` },
    ],
    3,
  ]);
  expect(entry?.map(({ fullUrl, search }) => [fullUrl, search?.mode])).toEqual([
    [`${url}/1`, "match"],
    [undefined, "outcome"],
  ]);
});

test("a cursor that carries the criteria makes a link to the next page without them", () => {
  const search = read("family=King&_sort=-birthdate&_id=1&_count=1&_elements=name&_lastUpdated=ge2026");
  const { link } = searchset("https://x/fhir/R4", "https://x/fhir/R4/Patient", search, { matches: [], next: "s.abc", isCarried: true });
  expect(link?.at(-1)?.url).toBe("https://x/fhir/R4/Patient?_count=1&_elements=name&_cursor=s.abc");
});

test("a resource of which some elements were asked for says so", () => {
  const patient = { resourceType: "Patient" as const, id: "1", gender: "female" as const, birthDate: "1987", meta: { versionId: "1" } };
  expect(subset(patient, { elements: ["birthDate"], summary: "false" })).toEqual({
    resourceType: "Patient",
    id: "1",
    birthDate: "1987",
    meta: { versionId: "1", tag: [{ system: "http://terminology.hl7.org/CodeSystem/v3-ObservationValue", code: "SUBSETTED" }] },
  });
  expect(subset(patient, { elements: [], summary: "false" })).toBe(patient);
});

test("what a form has room for and no search needs is refused by name, without delay", () => {
  const many = (length: number) => Array.from({ length }, (_, at) => `x${at}`).join(",");
  expect(read(`family=${many(200)}&_elements=${many(200)}`).criteria[0]?.values).toHaveLength(200);
  for (const name of ["family", "_elements"])
    expect(() => read(`${name}=${many(201)}`)).toThrow(
      expect.objectContaining({ message: expect.stringMatching(new RegExp(`^${name}: `)) }),
    );
  expect(() => read("_include=a&".repeat(90_000))).toThrow("at most 200 parameters");
});

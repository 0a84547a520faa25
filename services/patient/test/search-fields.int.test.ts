/** The search by fields, compared with what the records themselves say, over a real Postgres. */
import { randomUUID } from "node:crypto";
import * as fc from "fast-check";
import { beforeAll, expect, test } from "vitest";
import { fold } from "../src/patients/folding.ts";
import { type Client, patientsOfThisFile, someBody } from "./testing.ts";

const { service, admin } = await patientsOfThisFile({
  settings: { emailRequired: false, addressRequired: false, dateOfBirthPrecision: "year" },
});
const owner = service.as("user");

type Entry = Record<string, string>;
type Item = {
  id: string;
  name: string;
  dateOfBirth: string;
  sex?: string;
  deceased?: boolean | string;
  updatedAt: string;
  names: Entry[];
  phones?: Entry[];
  emails?: Entry[];
  addresses?: Entry[];
  identifiers?: Entry[];
};
type Condition = { field: string; is?: string; anyOf?: string[]; missing?: boolean };

const people: Record<string, unknown>[] = [
  {
    names: [
      { given: "Zoë Marie", family: "Ångström" },
      { use: "maiden", given: "Zoë", family: "O'Neill" },
    ],
    dateOfBirth: "1950-01-01",
  },
  { firstName: "Ada", lastName: "Lovelace", dateOfBirth: "1987-04-12", sex: "female", deceased: true, phoneNumber: "+12175550123" },
  { firstName: "Ada", lastName: "van der Berg", dateOfBirth: "1987-04", sex: "other", email: "ada@example.com" },
  { name: "Vanessa Smith", dateOfBirth: "1987", sex: "male", deceased: "2020-01-01", address: "12 St James's Square, 100% London" },
  {
    firstName: "Jean_Luc",
    lastName: "Smithers",
    dateOfBirth: "1999-09-09",
    deceased: false,
    identifiers: [{ system: "ssn", value: "AB-12 34" }],
  },
  {
    name: "王小明",
    dateOfBirth: "2001-12-31",
    addresses: [{ city: "北京", country: "CN" }],
    identifiers: [{ system: "passport", value: "AB-12 34" }],
  },
  {
    firstName: "Émile",
    lastName: "Straße",
    dateOfBirth: "1987-12-31",
    phones: [{ value: "+442071234567" }, { value: "+12175550199", use: "mobile" }],
    addresses: [
      { street: "1 Main St", city: "Springfield", state: "IL", zipCode: "62701", country: "US" },
      { city: "Zürich", country: "CH" },
    ],
    emails: [{ value: "Emile@Example.com" }, { value: "strasse@example.org" }],
  },
  { firstName: "S", lastName: "Li", dateOfBirth: "1986-12-31", sex: "female", address: { city: "springfield", state: "MA" } },
];
const items: Item[] = [];
const own = new Set<string>();

beforeAll(async () => {
  for (const [index, person] of people.entries()) {
    const who = index % 2 ? owner : admin;
    const base = { email: undefined, address: undefined, name: undefined };
    const { status, body, text } = await who.send("POST", "/patients?duplicates=allow", { ...someBody(), ...base, ...person });
    expect(status, text).toBe(201);
    items.push(body);
    if (who === owner) own.add(body.id);
  }
});

async function search(body: object, who: Client = admin): Promise<Item[]> {
  const found: Item[] = [];
  for (let cursor: string | undefined; ; ) {
    const answer = await who.send("POST", "/patients:search", { limit: 3, ...body, cursor });
    expect(answer.status, answer.text).toBe(200);
    found.push(...answer.body.items);
    if (!answer.body.nextCursor) return found;
    cursor = answer.body.nextCursor;
  }
}
const idsOf = (found: Item[]) => found.map(({ id }) => id);

/** What a record has in a field of text. */
function textsOf(item: Item, field: string): string[] {
  const { names, phones = [], emails = [], addresses = [] } = item;
  const from = (entries: Entry[], ...keys: string[]) => entries.flatMap((entry) => keys.flatMap((key) => entry[key] ?? []));
  const parts = ["street", "city", "state", "zipCode", "country"];
  if (field === "name") return from(names, "text", "given", "family");
  if (field === "family" || field === "given") return from(names, field);
  if (field === "phone") return from(phones, "value");
  if (field === "email") return from(emails, "value");
  return field === "address" ? from(addresses, "text", ...parts) : from(addresses, field);
}

const firstDay = (date: string) => `${date}-01-01`.slice(0, 10);
const lastDay = (date: string) => {
  if (date.length === 10) return date;
  const [year = 0, month = 12] = date.split("-").map(Number);
  return new Date(Date.UTC(year, month, 0)).toISOString().slice(0, 10);
};
/** As the FHIR specification has it, on ranges. */
function isBorn(born: string, asked: string): boolean {
  const [, op = "eq", date = ""] = /^([a-z]*)(.*)$/.exec(asked) ?? [];
  const [low, high, first, last] = [firstDay(born), lastDay(born), firstDay(date), lastDay(date)];
  const equal = first <= low && high <= last;
  return {
    eq: equal,
    "": equal,
    ne: !equal,
    gt: high > last,
    lt: low < first,
    ge: high > last || equal,
    le: low < first || equal,
    sa: low > last,
    eb: high < first,
  }[op] as boolean;
}

function isTrue(item: Item, { field, is = "start", anyOf = [], missing }: Condition): boolean {
  if (missing !== undefined) {
    const values = { sex: item.sex, deceased: item.deceased, identifier: item.identifiers } as Record<string, unknown>;
    return missing === (field in values ? values[field] === undefined : field !== "dateOfBirth" && textsOf(item, field).length === 0);
  }
  return anyOf.some((asked) => {
    if (field === "sex") return (item.sex ?? "unknown") === asked;
    if (field === "id") return item.id === asked;
    if (field === "deceased") return String(item.deceased !== undefined && item.deceased !== false) === asked;
    if (field === "dateOfBirth") return isBorn(item.dateOfBirth, asked);
    if (field === "identifier") {
      const [system, value] = asked.includes("|") ? asked.split("|") : [undefined, asked];
      return (item.identifiers ?? []).some((each) => (!system || each.system === system) && (!value || each.value === value));
    }
    const texts = textsOf(item, field);
    if (field === "phone")
      return texts.some((text) =>
        is === "exact" ? text === asked : is === "start" ? text.startsWith(asked) : text.includes(asked.replace(/\D/g, "")),
      );
    if (is === "exact") return texts.some((text) => text === asked || (field === "given" && text.split(" ").includes(asked)));
    const [wanted, folded] = [fold(asked), texts.map(fold)];
    if (is === "contains") return folded.some((text) => text.includes(wanted));
    return folded.some((text) => text.startsWith(wanted) || (field === "given" && text.includes(` ${wanted}`)));
  });
}

const textFields = ["name", "family", "given", "email", "address", "street", "city", "state", "zipCode", "country"];
const pieces = [
  "a",
  "Ada",
  "ada",
  "ÅNG",
  "lov",
  "van der b",
  "der",
  "smith",
  "O'Ne",
  "neill",
  "ström",
  "100%",
  "n_L",
  "王",
  "小明",
  "Straße",
  "STRASSE",
];
const morePieces = [
  "spring",
  "Springfield",
  "zu",
  "Zürich",
  "il",
  "627",
  "US",
  "example",
  "ada@example.com",
  "marie",
  "Marie",
  "Li",
  "s",
  "st james's",
  "mit",
];
const textCondition = fc.record({
  field: fc.constantFrom(...textFields),
  is: fc.constantFrom("start", "exact", "contains"),
  anyOf: fc.array(fc.constantFrom(...pieces, ...morePieces), { minLength: 1, maxLength: 2 }),
});
const dates = ["1987", "1987-04", "1987-04-12", "1987-04-01", "1987-12-31", "1986-12-31", "1950", "2001-12"];
const dateCondition = fc.record({
  field: fc.constant("dateOfBirth"),
  anyOf: fc.array(
    fc.tuple(fc.constantFrom("", "eq", "ne", "gt", "ge", "lt", "le", "sa", "eb"), fc.constantFrom(...dates)).map((parts) => parts.join("")),
    { minLength: 1, maxLength: 2 },
  ),
});
const otherCondition: fc.Arbitrary<Condition> = fc.constantFrom(
  ...["female", "male", "unknown"].map((sex) => ({ field: "sex", anyOf: [sex] })),
  ...["true", "false"].map((flag) => ({ field: "deceased", anyOf: [flag] })),
  ...["ssn|AB-12 34", "AB-12 34", "mrn|", "nobody|1", "P100001"].map((key) => ({ field: "identifier", anyOf: [key, "passport|none"] })),
  ...[...textFields, "sex", "deceased", "identifier", "dateOfBirth", "phone"].flatMap((field) =>
    [true, false].map((missing) => ({ field, missing })),
  ),
  ...["+12175550123", "+12175550199"].map((number) => ({ field: "phone", anyOf: [number] })),
  ...["start", "contains"].map((is) => ({ field: "phone", is, anyOf: ["+4420"] })),
);

test("every condition finds whom the records say, in every order, for whoever may see them", { timeout: 120_000 }, async () => {
  const sorts = fc.constantFrom(undefined, "-createdAt", "name", "dateOfBirth", "-updatedAt");
  const conditions = fc.array(fc.oneof(textCondition, dateCondition, otherCondition), { maxLength: 3 });
  await fc.assert(
    fc.asyncProperty(conditions, sorts, async (where, sort) => {
      const expected = items.filter((item) => where.every((condition) => isTrue(item, condition))).map(({ id }) => id);
      const found = idsOf(await search({ where, sort }));
      expect(found.toSorted()).toEqual(expected.toSorted());
      if (sort === undefined) expect(found).toEqual(expected);
      expect(idsOf(await search({ where, sort }, owner)).toSorted()).toEqual(expected.filter((id) => own.has(id)).toSorted());
    }),
    { numRuns: 300 },
  );
});

test("folding in SQL is folding here, for each letter of seven scripts, alone, within a word and at its end", {
  timeout: 60_000,
}, async () => {
  // Postgres takes case and marks from its ICU, which may be years old. So letters beyond U+9FFF and Ᲊ (2024) are left
  // out, and ͺ, which becomes a space with a mark.
  const letter = String.raw`[[[\p{sc=Latn}\p{sc=Grek}\p{sc=Cyrl}\p{sc=Hebr}\p{sc=Arab}\p{sc=Han}\p{sc=Hiragana}]&&\p{L}&&[A-\u9fff]]--[ͺ\u1c89]]`;
  const isName = new RegExp(String.raw`^(${letter}[\u0300-\u036f]*|[\p{Nd} '.\-])*$`, "v");
  const characters = Array.from({ length: 0x11_0000 }, (_, code) => code).filter((code) => code < 0xd800 || code > 0xdfff);
  const words = ["ΣΊΣΥΦΟΣ", "İstanbul", "Đặng", "Łódź", "Þór", "Æsir", "مُحَمَّد", "שָׁלוֹם", "か\u3099", "Йод"];
  const texts = characters.map((code) => String.fromCodePoint(code)).flatMap((each) => [each, `a${each}b`, `ab${each}`]);
  const known = [...texts.map((text) => text.normalize()).filter((text) => isName.test(text)), ...words.map((word) => word.normalize())];
  expect(known.length).toBeGreaterThan(90_000);
  const { rows } = await service.db.pool.query(
    "select folded(text) as folded from unnest($1::text[]) with ordinality t(text, n) order by n",
    [known],
  );
  const wrong = known.flatMap((text, index) => (rows[index].folded === fold(text) ? [] : [[text, fold(text), rows[index].folded]]));
  expect(wrong).toEqual([]);
});

test("ids are a list, an unknown one is nobody's, and updates are found by instants", async () => {
  const [first, second] = items as [Item, Item];
  const anyOf = [first.id, second.id, "0193b3f0-8c1a-7b6e-9d2f-3a4b5c6d7e8f", "nonsense"];
  expect(idsOf(await search({ where: [{ field: "id", anyOf }] }))).toEqual([first.id, second.id]);
  const at = second.updatedAt;
  const ids = { field: "id", anyOf };
  for (const [op, expected] of [
    ["ge", [second.id]],
    ["gt", []],
    ["le", [first.id, second.id]],
    ["lt", [first.id]],
  ] as const)
    expect([op, idsOf(await search({ where: [ids, { field: "updatedAt", anyOf: [`${op}${at}`] }] }))]).toEqual([op, expected]);
});

test("merged and deleted records are found on request, and by the record that a merged one leads to", async () => {
  const create = async (lastName: string) =>
    (await admin.send("POST", "/patients?duplicates=allow", someBody({ name: undefined, firstName: "Quinn", lastName }))).body;
  const [survivor, duplicate, deleted] = [await create("Quartz"), await create("Quarz"), await create("Quarto")];
  const merge = { duplicateId: duplicate.id, duplicateVersion: 1 };
  expect((await admin.send("POST", `/patients/${survivor.id}:merge`, merge, { "if-match": '"1"' })).status).toBe(200);
  await admin.send("DELETE", `/patients/${deleted.id}`);
  const where = [{ field: "given", anyOf: ["quinn"] }];
  for (const [states, expected] of [
    [undefined, [survivor.id]],
    [
      ["living", "merged"],
      [survivor.id, duplicate.id],
    ],
    [["deleted"], [deleted.id]],
    [
      ["deleted", "living", "merged"],
      [survivor.id, duplicate.id, deleted.id],
    ],
  ] as const)
    expect([states, idsOf(await search({ where, states }))]).toEqual([states, expected]);
  const leads = [{ field: "mergedInto", anyOf: [survivor.id] }];
  expect(await search({ where: leads, states: ["merged"] })).toMatchObject([{ id: duplicate.id, mergedInto: survivor.id }]);
  const number = `mrn|${deleted.identifiers[0].value}`;
  expect(idsOf(await search({ where: [{ field: "identifier", anyOf: [number] }], states: ["living", "deleted"] }))).toEqual([deleted.id]);
});

test("a search for no field lists everybody, and does not say how many they are if nobody needs it", async () => {
  const search = async (asked: object) => (await owner.send("POST", "/patients:search", { limit: 2, ...asked })).body;
  const { totalEstimate, nextCursor, ...first } = (await owner.send("GET", "/patients?limit=2")).body;
  expect(totalEstimate).toBeGreaterThan(2);
  expect(await search({})).toEqual({ ...first, totalEstimate, nextCursor: expect.any(String) });
  const page = await search({ count: "none" });
  expect(page).toEqual({ ...first, nextCursor: expect.any(String) });
  const { body: second } = await owner.send("GET", `/patients?limit=2&cursor=${nextCursor}`);
  expect((await search({ cursor: page.nextCursor })).items).toEqual(second.items);
});

test("what changed since an answer ends at its horizon, and says from when on to ask by instants", async () => {
  const before = await admin.send("POST", "/patients:search", { updatedAfter: "0001-01-01T00:00:00Z", limit: 200 });
  expect(Date.parse(before.body.completeUntil)).toBeLessThan(Date.now() - 50_000);
  const { id } = (await admin.send("POST", "/patients?duplicates=allow", someBody({ name: "Just now" }))).body;
  const after = await admin.send("POST", "/patients:search", { updatedAfter: before.body.until, sort: "-updatedAt" });
  expect(idsOf(after.body.items)).toEqual([id]);
});

test("every wrong value is named", async () => {
  const where = [
    { field: "dateOfBirth", anyOf: ["1987-04-12", "1987-13", "about1987"] },
    { field: "sex", is: "exact", anyOf: ["Female"] },
    { field: "family" },
    { field: "family", anyOf: ["a"], missing: true },
    { field: "identifier", anyOf: ["|x", "|"] },
    { field: "city", anyOf: ["%"] },
    { field: "given", anyOf: ["a\u202e"] },
  ];
  const { status, body } = await admin.send("POST", "/patients:search", { where });
  expect(status).toBe(400);
  expect(body.errors.map(({ path }: { path: string }) => path)).toEqual([
    ...["where[0].anyOf[1]", "where[0].anyOf[2]", "where[1].is", "where[1].anyOf[0]", "where[2]", "where[3]"],
    ...["where[4].anyOf[0]", "where[4].anyOf[1]", "where[5].anyOf[0]", "where[6].anyOf[0]"],
  ]);
  const cursor = (await admin.send("POST", "/patients:search", { limit: 1 })).body.nextCursor;
  expect((await admin.send("POST", "/patients:search", { limit: 1, cursor, where: [{ field: "sex", missing: true }] })).status).toBe(400);
});

test("a cursor that carries its search needs nothing else, is its caller's own and shows nothing", async () => {
  const where = [{ field: "sex", anyOf: ["female", "male", "other", "unknown"] }];
  const expected = idsOf(await search({ where, sort: "-name", states: ["living", "merged"] }));
  const first = await admin.send("POST", "/patients:search", { where, sort: "-name", states: ["living", "merged"], limit: 2, carry: true });
  const found: Item[] = [...first.body.items];
  let cursor = first.body.nextCursor;
  expect(Buffer.from(cursor.slice(2), "base64url").toString()).not.toContain("female");
  expect((await owner.send("POST", "/patients:search", { cursor })).status).toBe(400);
  for (const more of [{ where }, { where: [] }, { sort: "name" }, { states: ["living"] }, { updatedAfter: "2026-01-01T00:00:00Z" }]) {
    const { status, body } = await admin.send("POST", "/patients:search", { cursor, ...more });
    expect([status, body.errors[0].path]).toEqual([400, Object.keys(more)[0]]);
  }
  while (cursor) {
    const { body } = await admin.send("POST", "/patients:search", { limit: 2, cursor });
    found.push(...body.items);
    cursor = body.nextCursor;
  }
  expect(idsOf(found)).toEqual(expected);
  const many = [{ field: "city", anyOf: ["springfield", ...Array.from({ length: 199 }, () => `${randomUUID()} ${randomUUID()}`)] }];
  const tooLong = await admin.send("POST", "/patients:search", { where: many, limit: 1, carry: true });
  expect([tooLong.status, tooLong.body.errors[0].path]).toEqual([400, "where"]);
  const ids = [...expected, ...Array.from({ length: 200 }, () => randomUUID())].slice(0, 200);
  const all = await admin.send("POST", "/patients:search", { where: [{ field: "id", anyOf: ids }], limit: 1, carry: true });
  expect([all.status, (await admin.send("POST", "/patients:search", { cursor: all.body.nextCursor })).status]).toEqual([200, 200]);
});

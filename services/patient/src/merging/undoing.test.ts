import * as fc from "fast-check";
import { expect, test } from "vitest";
import { withLists } from "../patients/views.ts";
import type { Lists, PatientRecord } from "../tables.ts";
import { unitedGrants, withoutMergedGrants } from "./grants.ts";
import { type Keep, mergedRecord, withoutMergedRecord } from "./records.ts";
import { type State, type Step, undo } from "./undoing.ts";

const plain: PatientRecord = { name: "Ada Lovelace", dateOfBirth: "1985-12-10", registeredDate: "2026-01-28" };

/** Few values, so that records often have the same ones. */
const few = <const T extends string | boolean>(...values: T[]): fc.Arbitrary<T> => fc.constantFrom(...values);
const entries = <T extends object>(entry: fc.Arbitrary<T>, key: (entry: T) => unknown, minLength = 0) =>
  fc
    .uniqueArray(entry, { selector: key, minLength, maxLength: 4 })
    .map((list) => list.map((each, index) => ({ id: String(index + 1), ...each })));
const optional = <T>(value: fc.Arbitrary<T>) => fc.option(value, { nil: undefined });

const records = fc
  .record({
    dateOfBirth: few("1985-12-10", "1985", "1990-01-01"),
    sex: optional(few("female", "male")),
    registeredDate: few("2026-01-28", "2020-02-02"),
    deceased: optional(few<string | boolean>(true, "2026-02-01")),
    generalPractitioner: optional(few("Dr. King", "Dr. Blackwell")),
    names: entries(fc.record({ text: few("Ada Lovelace", "Ada Byron", "A. Byron", "Grace Hopper") }), ({ text }) => text, 1),
    phones: entries(fc.record({ value: few("+1", "+2", "+3", "+4"), use: few("home", "work") }), ({ value }) => value),
    emails: entries(fc.record({ value: few("a@b.cd", "A@B.cd", "e@f.gh", "i@j.kl") }), ({ value }) => value.toLowerCase()),
    addresses: entries(
      fc.record({ text: few("1 Main St, Ayr", "2 High St"), city: few("Ayr", "Bath"), country: few("GB") }),
      ({ text }) => text,
    ),
    identifiers: entries(fc.record({ system: few("mrn", "x"), value: few("1", "2", "3") }), ({ system, value }) => system + value),
    languages: entries(fc.record({ language: few("de", "en", "fr") }), ({ language }) => language),
    contacts: entries(fc.record({ name: few("Ralph", "Annabella") }), ({ name }) => name),
  })
  .map(({ names, phones, emails, addresses, ...others }) => {
    const given = Object.entries(others).filter(([, value]) => value !== undefined && !(Array.isArray(value) && value.length === 0));
    return withLists({ ...plain, ...(Object.fromEntries(given) as object) }, { names, phones, emails, addresses } as unknown as Lists);
  });
const keeps: fc.Arbitrary<Keep> = fc.record({
  name: optional(few("this", "that")),
  email: optional(few("this", "that")),
  address: optional(few("this", "that")),
  dateOfBirth: optional(few("this", "that")),
  sex: optional(few("this", "that")),
});
const grants = fc
  .dictionary(few("user:1", "user:2", "team:3", "team:4"), fc.boolean(), { noNullPrototype: true })
  .map((levels) => new Map(Object.entries(levels)));
const states: fc.Arbitrary<State> = fc.record({ record: records, grants });

test("undoing a merge gives the record as it was, whatever both have and whichever is kept", () => {
  fc.assert(
    fc.property(records, records, keeps, (before, duplicate, keep) => {
      const after = mergedRecord(before, duplicate, keep).record;
      expect(withoutMergedRecord({ before, after, duplicate }, after, [])).toEqual(before);
    }),
    { numRuns: 300 },
  );
});

test("a survivor has every entry of both records, and a value wherever one of them has one", () => {
  fc.assert(
    fc.property(records, records, keeps, (survivor, duplicate, keep) => {
      const { record, conflicts } = mergedRecord(survivor, duplicate, keep);
      for (const { identifiers = [] } of [survivor, duplicate])
        for (const { system, value } of identifiers) expect(record.identifiers).toContainEqual(expect.objectContaining({ system, value }));
      const names = [record.name, ...(record.names ?? []).map(({ text }) => text)];
      for (const each of [survivor, duplicate]) expect(names).toContain(each.name);
      for (const field of ["sex", "deceased", "generalPractitioner"] as const)
        expect(record[field] === undefined).toBe(survivor[field] === undefined && duplicate[field] === undefined);
      // An entry that both have in another spelling stays as the survivor has it.
      for (const { field, kept } of conflicts)
        expect(JSON.stringify(record[field as "name"]).toLowerCase()).toContain(
          JSON.stringify((kept === "this" ? survivor : duplicate)[field as "name"]).toLowerCase(),
        );
    }),
    { numRuns: 200 },
  );
});

test("merges of several records are undone in any order, and each leaves nothing behind", () => {
  fc.assert(
    fc.property(
      states,
      fc.array(fc.tuple(states, keeps), { minLength: 1, maxLength: 4 }),
      fc.infiniteStream(fc.nat()),
      (own, others, picks) => {
        const steps: Step[] = [];
        let [now, version] = [own, 1];
        for (const [index, [duplicate, keep]] of others.entries()) {
          const record = mergedRecord(now.record, duplicate.record, keep).record;
          const after = { record, grants: unitedGrants(now.grants, duplicate.grants) };
          steps.push({ duplicateId: String(index), version: ++version, undoneVersion: undefined, before: now, after, duplicate });
          now = after;
        }
        for (const left = [...steps]; left.length > 0; ) {
          const [step] = left.splice((picks.next().value ?? 0) % left.length, 1);
          const undone = step && undo(steps, step.duplicateId, now);
          if (!step || !undone) throw new Error("there is nothing to undo");
          now = undone.state;
          step.undoneVersion = ++version;
          for (const { duplicate } of left)
            for (const { system, value } of duplicate.record.identifiers ?? [])
              expect(now.record.identifiers).toContainEqual(expect.objectContaining({ system, value }));
        }
        expect(now.grants).toEqual(own.grants);
        expect(new Set(now.record.identifiers?.map(({ value }) => value))).toEqual(
          new Set(own.record.identifiers?.map(({ value }) => value)),
        );
        expect(now.record).toEqual(own.record);
      },
    ),
    { numRuns: 200 },
  );
});

test("what was changed since a merge stays when it is undone", () => {
  const before = { ...plain, phoneNumber: "+1", sex: "female" } as const;
  const duplicate = { ...plain, phoneNumber: "+2", generalPractitioner: "Dr. King" };
  const after = mergedRecord(before, duplicate, {}).record;
  const [own, brought] = after.phones ?? [];
  if (!own || !brought) throw new Error("a phone is missing");
  const now = withLists(
    { ...after, sex: "other", generalPractitioner: "Dr. Blackwell" },
    {
      names: [{ id: "1", text: "Ada King" }],
      phones: [own, { ...brought, use: "work" }, { id: "new", value: "+3" }],
    },
  );
  expect(withoutMergedRecord({ before, after, duplicate }, now, [])).toEqual(now);
  const untouched = withLists(after, { names: [{ id: "1", text: "Ada King" }], phones: [own, brought, { id: "new", value: "+3" }] });
  expect(withoutMergedRecord({ before, after, duplicate }, untouched, [])).toMatchObject({
    name: "Ada King",
    phoneNumber: "+1",
    phones: [{ id: "1" }, { id: "new" }],
  });
  const levels = (entries: [string, boolean][]) => new Map(entries);
  const merge = {
    before: levels([["user:1", false]]),
    after: levels([["user:1", true], ["user:2", true], ["user:3", false]]), // biome-ignore format: a table
    duplicate: levels([["user:1", true], ["user:2", true], ["user:3", false]]), // biome-ignore format: a table
  };
  const since = levels([["user:1", true], ["user:3", true], ["user:4", false]]); // biome-ignore format: a table
  expect(withoutMergedGrants(merge, since, [])).toEqual(levels([["user:1", false], ["user:3", true], ["user:4", false]])); // biome-ignore format: a table
});

test("a list that would be too long refuses the merge, and says by how much", () => {
  const identifiers = (system: string, count: number) =>
    Array.from({ length: count }, (_, id) => ({ id: String(id), system, value: `${id}` }));
  const merge = () => mergedRecord({ ...plain, identifiers: identifiers("a", 15) }, { ...plain, identifiers: identifiers("b", 7) }, {});
  expect(merge).toThrow(/identifiers: would have 22 entries.*remove 2/);
});

test("nobody dies before they are born by a merge of two dates", () => {
  const [one, other] = [
    { ...plain, dateOfBirth: "1990-01-01" },
    { ...plain, dateOfBirth: "1950-01-01", deceased: "1980-01-01" },
  ];
  expect(() => mergedRecord(one, other, {})).toThrow(/keep.dateOfBirth/);
  expect(mergedRecord(one, other, { dateOfBirth: "that" }).record).toMatchObject({ dateOfBirth: "1950-01-01", deceased: "1980-01-01" });
});

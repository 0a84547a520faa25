/** The pass over all patients, and what follows it, find the pairs that comparing everybody with everybody finds. */

import { createLogger } from "@pm/kit/log";
import { databaseSettings } from "@pm/kit/postgres/database";
import { testLifecycle } from "@pm/kit/test/lifecycle";
import { query } from "@pm/stack/native/postgres";
import fc from "fast-check";
import { expect, test, vi } from "vitest";
import { maxSharers } from "../src/matching/candidates-store.ts";
import { createScoring } from "../src/matching/matching.ts";
import { readModel } from "../src/matching/model-file.ts";
import { startPairing } from "../src/matching/pairing.ts";
import { frequenciesIn } from "../src/matching/training.ts";
import { matchKeys } from "../src/patients/blocking-keys.ts";
import { type Features, featuresOf } from "../src/patients/features.ts";
import { toRecord } from "../src/patients/store.ts";
import { patientsOfThisFile } from "./testing.ts";

const { database, service, admin } = await patientsOfThisFile();
const { pool } = service.db;
const model = readModel();

type Person = { firstName: string; lastName: string; dateOfBirth: string; address: { street: string; zipCode: string } };

/** Somebody of few names, days and streets: so some keys are everybody's, and others of two. */
const person: fc.Arbitrary<Person> = fc.record({
  firstName: fc.oneof({ weight: 6, arbitrary: fc.constant("William") }, fc.constantFrom("Bill", "Wilma", "Katherine", "Ana", "José")),
  lastName: fc.oneof({ weight: 6, arbitrary: fc.constant("Brannigan") }, fc.constantFrom("Tatem", "Quillon", "Ó Briain", "Smith-Jones")),
  dateOfBirth: fc.oneof(
    { weight: 4, arbitrary: fc.constantFrom("1985-01-31", "1985-01-13") },
    fc
      .date({ min: new Date("1940-01-01"), max: new Date("2020-01-01"), noInvalidDate: true })
      .map((date) => date.toISOString().slice(0, 10)),
  ),
  address: fc.record({
    street: fc
      .tuple(fc.integer({ min: 1, max: 30 }), fc.constantFrom("Elm Street", "Station Road", "Market Place"))
      .map((parts) => parts.join(" ")),
    zipCode: fc.constantFrom("10115", "10117", "20095", "80331"),
  }),
});

const without = (text: string, at: number) => text.slice(0, at % text.length) + text.slice((at % text.length) + 1);
const errors: ((person: Person, at: number) => Person)[] = [
  (one, at) => ({ ...one, firstName: without(one.firstName, at) }),
  (one, at) => ({ ...one, lastName: without(one.lastName, at) }),
  (one) => ({ ...one, firstName: one.lastName, lastName: one.firstName }),
  (one, at) => ({ ...one, dateOfBirth: `${one.dateOfBirth.slice(0, 8)}${10 + (at % 18)}` }),
  (one) => ({ ...one, address: { street: "1 Elsewhere", zipCode: "99999" } }),
  (one) => one,
];
/** Some are registered twice, the second time with an error. */
const population = fc
  .array(fc.tuple(person, fc.option(fc.tuple(fc.constantFrom(...errors), fc.nat(20)), { freq: 2 })), { minLength: 90, maxLength: 130 })
  .map((people) => people.flatMap(([one, again]) => (again ? [one, again[0](one, again[1])] : [one])));

async function importAll(people: object[]): Promise<void> {
  const lines = people.map((each, index) => JSON.stringify({ email: `somebody.${index}@example.com`, ...each })).join("\n");
  const headers = { "content-type": "application/x-ndjson" };
  const { body } = await admin.send("POST", "/patients:import?duplicates=allow", lines, headers);
  expect(body).toMatchObject({ created: people.length, failed: 0, errors: [] });
}

const removeAll = () =>
  query(database.migrationDatabaseUrl, (client) => client.query("truncate patients, duplicate_pairs, duplicate_progress cascade"));

async function readAll(): Promise<{ id: string; features: Features }[]> {
  const { rows } = await pool.query("select * from patients p where deleted_at is null order by id");
  return rows.map((row) => ({ id: row.id, features: featuresOf(toRecord(row)) }));
}

/** Lets the job work until it has compared everybody who was there when it began. Returns the pass. */
async function pair<Result>(work: () => Promise<Result>): Promise<Result> {
  const lifecycle = testLifecycle();
  startPairing({
    db: service.db,
    settings: databaseSettings({ DATABASE_URL: database.databaseUrl }),
    model,
    frequencies: async () => frequenciesIn((await readAll()).map(({ features }) => features)),
    isRewritten: () => true,
    log: createLogger("patient", "silent"),
    lifecycle,
  });
  const result = await work();
  await lifecycle.shutdown("test");
  return result;
}

const progress = async () => (await pool.query("select model, after_id from duplicate_progress")).rows[0];
const passed = () => vi.waitFor(async () => expect(await progress()).toMatchObject({ after_id: null }), { timeout: 30_000, interval: 100 });
const followed = () =>
  vi.waitFor(
    async () => {
      const text = `select from duplicate_progress where after_id is null
        and not exists (select from patients p where (changed_xid, p.id) > (duplicate_progress.xid::xid8, duplicate_progress.id))`;
      expect((await pool.query(text)).rowCount).toBe(1);
    },
    { timeout: 30_000, interval: 100 },
  );

const stored = async () => (await pool.query("select first_id, second_id, score from duplicate_pairs where state = 'open'")).rows;

/** Each with each: those who may be one person, and whether they meet. */
function compareAll(people: { id: string; features: Features }[]) {
  const [score, counts] = [createScoring(model), frequenciesIn(people.map(({ features }) => features))];
  const keys = people.map(({ features }) => matchKeys(features).keys);
  const have = (some: number[]) => keys.filter((each) => some.every((key) => each.includes(key))).length;
  const meet = (one: number, other: number) => {
    const shared = (keys[one] ?? []).filter((key) => keys[other]?.includes(key));
    const common = shared.filter((key) => have([key]) > maxSharers);
    return common.length < shared.length || common.some((a, at) => common.slice(at + 1).some((b) => have([a, b]) <= maxSharers));
  };
  return people.flatMap((one, at) =>
    people.slice(at + 1).flatMap((other, after) => {
      const found = score(one.features, other.features, counts);
      return found.grade ? [{ first_id: one.id, second_id: other.id, score: found.score, isMet: meet(at, at + 1 + after) }] : [];
    }),
  );
}

const byIds = (pairs: { first_id: string; second_id: string; score: number }[]) =>
  Object.fromEntries(pairs.map(({ first_id, second_id, score }) => [`${first_id} ${second_id}`, Math.round(score * 1e6)]));

test("both find every pair that may be one person, but for those who share no key or, one by one and two by two, only keys of too many", async () => {
  const seen = { met: 0, notMet: 0, common: 0 };
  await fc.assert(
    fc.asyncProperty(population, fc.boolean(), async (people, isFollowed) => {
      await removeAll();
      if (isFollowed)
        await pair(async () => {
          await passed();
          await importAll(people);
          await followed();
        });
      else {
        await importAll(people);
        await pair(passed);
      }
      const registered = await readAll();
      const expected = compareAll(registered);
      expect(byIds(await stored())).toEqual(byIds(expected.filter(({ isMet }) => isMet)));
      const counts = Map.groupBy(
        registered.flatMap(({ features }) => matchKeys(features).keys),
        (key) => key,
      );
      seen.met += expected.filter(({ isMet }) => isMet).length;
      seen.notMet += expected.filter(({ isMet }) => !isMet).length;
      seen.common += [...counts.values()].filter(({ length }) => length > maxSharers).length;
    }),
    { numRuns: 8, endOnFailure: true },
  );
  // The populations are such that both happen.
  expect(Math.min(seen.met, seen.notMet, seen.common)).toBeGreaterThan(0);
});

test("after many changes all are compared again, and pairs that hold no longer are gone", async () => {
  await removeAll();
  const somebody = (index: number) => ({
    firstName: `Anna${index}`,
    lastName: `Bell${index}`,
    dateOfBirth: "1985-01-31",
    address: `${index} Elm Street`,
  });
  await importAll([somebody(0), somebody(0)]);
  await pair(async () => {
    await passed();
    const { model: first } = await progress();
    const [before] = await stored();
    expect(before).toBeDefined();
    await pool.query(
      "update patients set first_name = 'Otto', last_name = 'Zander', name = 'Otto Zander', date_of_birth = '1950-05-05' where id = $1",
      [before.first_id],
    );
    const digits = (index: number) => [...String(index)].map((digit) => "bcdfghklmn"[Number(digit)]).join("o");
    const others = Array.from({ length: 2_100 }, (_, index) => ({
      firstName: digits(index),
      lastName: digits(index * 7),
      dateOfBirth: new Date(Date.UTC(1940, 0, 1 + index * 3)).toISOString().slice(0, 10),
      address: `${index} ${digits(index)} Street`,
    }));
    await importAll([...others, others[0] as object].map((each, index) => ({ ...each, email: `other.${index}@example.com` })));
    await vi.waitFor(async () => expect((await progress()).model).not.toBe(first), { timeout: 30_000, interval: 100 });
    await passed();
    const pairs = await stored();
    expect(pairs).not.toContainEqual(expect.objectContaining({ first_id: before.first_id, second_id: before.second_id }));
    const twice = "select array_agg(id order by id) as ids from patients where name = $1";
    const { ids } = (await pool.query(twice, [`${others[0]?.firstName} ${others[0]?.lastName}`])).rows[0];
    expect(pairs).toContainEqual(expect.objectContaining({ first_id: ids[0], second_id: ids[1] }));
  });
});

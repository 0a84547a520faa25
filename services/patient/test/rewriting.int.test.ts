/** Rows of the version before: how they are found and ordered, and how they become rows of this version. */

import { createCursors } from "@pm/kit/cursor";
import { createLogger } from "@pm/kit/log";
import { databaseSettings } from "@pm/kit/postgres/database";
import { testLifecycle } from "@pm/kit/test/lifecycle";
import { afterAll, expect, test, vi } from "vitest";
import { matchKeys } from "../src/patients/blocking-keys.ts";
import { featuresOf } from "../src/patients/features.ts";
import { createLists } from "../src/patients/list.ts";
import { startRewriting } from "../src/patients/rewriting.ts";
import { patientsOfThisFile, someBody } from "./testing.ts";

const { admin, service, database } = await patientsOfThisFile();
const { pool } = service.db;
const lifecycle = testLifecycle();
afterAll(() => lifecycle.shutdown("test"));

const call = { actorId: admin.caller.id, requestId: "rewriting", traceparent: "", caller: admin.caller };
const listsWith = (isRewritten: boolean) =>
  createLists({
    db: service.db,
    cursors: createCursors("k".repeat(32)),
    search: { dateOrder: "YMD", phoneRegion: "US" },
    isRewritten: () => isRewritten,
  });
const names = async (isRewritten: boolean, query: object) =>
  (await listsWith(isRewritten).page(call, { limit: 50, deleted: false, ...query })).items.map(({ record }) => record.name);

/** Makes a row what the version before would have written. */
async function age(id: string, words: string[]): Promise<void> {
  await pool.query(
    "update patients set words = array_to_tsvector($2), sort_name = null, city_key = null, words_version = null, match_keys = null, keys_version = null where id = $1",
    [id, words],
  );
}

test("old rows are found, filtered and listed before they are rewritten, and as new ones after it, with no change to tell", async () => {
  const create = async (body: object) => (await admin.send("POST", "/patients", someBody({ ...body }))).body.id as string;
  const old = await create({ name: "राम Zander", address: { city: "Zürich" } });
  await create({ name: "Zoe Adams", address: { city: "Zürich" } });
  await age(old, ["रम", "zander"]);
  const { rows: before } = await pool.query("select updated_at, version, changed_xid::text from patients where id = $1", [old]);

  expect(await names(false, { q: "राम" })).toEqual(["राम Zander"]);
  expect(await names(false, { city: "zürich" })).toEqual(["राम Zander", "Zoe Adams"]);
  expect(await names(false, { sort: "name" })).toEqual(["Zoe Adams", "राम Zander"]);

  const settings = databaseSettings({ DATABASE_URL: database.databaseUrl });
  const rewriting = startRewriting({ db: service.db, settings, log: createLogger("patient", "silent"), lifecycle });
  await vi.waitFor(() => expect(rewriting.isDone()).toBe(true), { timeout: 20_000 });

  expect(await names(true, { q: "राम" })).toEqual(["राम Zander"]);
  expect(await names(true, { q: "रम" })).toEqual([]);
  expect(await names(true, { city: "Zurich" })).toEqual(["राम Zander", "Zoe Adams"]);
  expect(await names(true, { sort: "name" })).toEqual(["Zoe Adams", "राम Zander"]);
  const { rows: after } = await pool.query("select updated_at, version, changed_xid::text from patients where id = $1", [old]);
  expect(after).toEqual(before);

  // A replica of the version before changes a row without its words.
  await pool.query("update patients set version = version + 1, name = 'Rama Zander' where id = $1", [old]);
  await vi.waitFor(async () => expect(await names(true, { q: "rama" })).toEqual(["Rama Zander"]), { timeout: 20_000, interval: 200 });
});

test("an old row gets its keys, the one of the day of birth first, and a create then meets it", async () => {
  const person = {
    firstName: "Ottilie",
    lastName: "Quarzberg",
    dateOfBirth: "1961-07-14",
    address: { text: "9 Elm Street, 10115", street: "9 Elm Street", zipCode: "10115" },
  };
  const create = async () => (await admin.send("POST", "/patients", someBody(person))).body;
  const { id } = await create();
  const keys = async () => (await pool.query("select match_keys from patients where id = $1", [id])).rows[0].match_keys;
  const before = await keys();
  expect(before[0]).toBe(matchKeys(featuresOf(person)).keys[0]);
  await age(id, ["ottilie", "quarzberg"]);
  const settings = databaseSettings({ DATABASE_URL: database.databaseUrl });
  const rewriting = startRewriting({ db: service.db, settings, log: createLogger("patient", "silent"), lifecycle });
  await vi.waitFor(() => expect(rewriting.isDone()).toBe(true), { timeout: 20_000 });
  await vi.waitFor(async () => expect(await keys()).toEqual(before), { timeout: 20_000 });
  expect(await create()).toMatchObject({ possibleDuplicates: 1 });
});

test("lists by name follow the family name, then given names, by Unicode collation", async () => {
  const people = ["Zoe Ixlee", "Adam Ixleeds", "adam Ixlee", "Ängela Ixlee", "Berta Ixlee", "Eva Ixlée"];
  for (const name of people) await admin.send("POST", "/patients", someBody({ name }));
  const expected = ["adam Ixlee", "Ängela Ixlee", "Berta Ixlee", "Eva Ixlée", "Zoe Ixlee", "Adam Ixleeds"];
  const isTheirs = (name: string) => people.includes(name);
  expect((await names(true, { sort: "name" })).filter(isTheirs)).toEqual(expected);
  expect((await names(true, { sort: "-name" })).filter(isTheirs)).toEqual(expected.toReversed());
  expect(await names(true, { sort: "name", q: "ixlee" })).toEqual(expected);
});

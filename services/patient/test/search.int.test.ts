/** A search that finds thousands, read in both ways that list.ts has, over a real Postgres. */

import { createLogger } from "@pm/kit/log";
import { openDatabase } from "@pm/kit/postgres/database";
import { afterAll, expect, test } from "vitest";
import { type Client, patientsOfThisFile, someBody } from "./testing.ts";

const { admin, service, database } = await patientsOfThisFile();
const owner = openDatabase({
  settings: { url: database.migrationDatabaseUrl },
  poolSize: 1,
  applicationName: "owner",
  log: createLogger("test", "silent"),
});
afterAll(() => owner.kysely.destroy());

/** So many that who sees half of them sees many. Half of them have the word "common", the others one that begins so. */
const people = 10_000;
const name = (index: number) => `${index % 2 ? "Commonly" : "Common"} Person${index}`;
const file = Array.from({ length: people }, (_, index) => `${JSON.stringify(someBody({ name: name(index) }))}\n`).join("");

/** The ids on all pages of a search. The pages have these limits in turn. */
async function allPages(who: Client, query: string, limits = [200]): Promise<string[]> {
  const found: string[] = [];
  for (let [page, cursor] = [0, ""]; ; page++) {
    const { status, body } = await who.send("GET", `/patients?${query}&limit=${limits[page % limits.length]}${cursor}`);
    expect(status).toBe(200);
    found.push(...body.items.map((item: { id: string }) => item.id));
    if (!body.nextCursor) return found;
    cursor = `&cursor=${body.nextCursor}`;
  }
}

test("whether matches are gathered or walked to, pages have each of them once, in the same order", async () => {
  const { body } = await admin.send("POST", "/patients:import", file, { "content-type": "application/x-ndjson" });
  expect(body.created).toBe(people);
  const idsBy = async (order: string) => {
    const { rows } = await service.db.pool.query<{ id: string }>(`select id from patients order by ${order}`);
    return rows.map(({ id }) => id);
  };
  const [byCreation, byName] = [await idsBy("id"), await idsBy("sort_name, id")];
  const byRelevance = await idsBy("name like 'Common %' desc, id");
  const isShared = (id: string) => Number.parseInt(id.slice(-2), 16) < 128;
  const some = service.as("user");
  await service.db.pool.query("insert into patient_access (patient_id, principal, granted_by) select unnest($1::uuid[]), $2, 'test'", [
    byCreation.filter(isShared),
    `user:${some.caller.id}`,
  ]);

  // Without statistics Postgres expects a few, with them what there is.
  for (const round of ["gathered", "walked"]) {
    if (round === "walked") await owner.query({ name: "analyze", text: "analyze patients, patient_access" }, []);
    expect(await allPages(admin, "q=common&sort=createdAt"), round).toEqual(byCreation);
    expect(await allPages(admin, "q=common&sort=-createdAt"), round).toEqual(byCreation.toReversed());
    expect(await allPages(some, "q=common&sort=createdAt"), round).toEqual(byCreation.filter(isShared));
    expect(await allPages(some, "q=common&sort=-name"), round).toEqual(byName.filter(isShared).toReversed());
    expect(await allPages(admin, "q=common", [200, 1, 150, 3]), round).toEqual(byRelevance);
    expect(await allPages(some, "q=common"), round).toEqual(byRelevance.filter(isShared));
  }
  const { body: first } = await admin.send("GET", "/patients?q=common");
  expect(first.totalEstimate).toBeGreaterThan(5_000);
});

/** How often Postgres planned each statement of lists, and used a plan that it kept, on the pool's last connection. */
async function plans() {
  const { rows } = await service.db.pool.query<{ name: string; text: string; custom: string; kept: string }>(
    `select name, statement as text, custom_plans as custom, generic_plans as kept
     from pg_prepared_statements where name like 'patients_list_%'`,
  );
  return new Map(rows.map(({ name, text, custom, kept }) => [name, { text, custom: Number(custom), kept: Number(kept) }]));
}

/** The text of the statement that a search by words runs. */
async function statementOf(path: string): Promise<string> {
  const before = await plans();
  expect((await admin.send("GET", path)).status).toBe(200);
  const used = [...(await plans())].filter(([name, { custom, kept }]) => {
    const then = before.get(name);
    return custom !== then?.custom || kept !== then.kept;
  });
  expect(used).not.toEqual([]);
  return used.map(([, { text }]) => text).join();
}

test("a page walks to what many have, and looks up what few have", async () => {
  const isLookedUp = async (path: string) => (await statementOf(path)).includes("greatest(p.id, p.id)");
  expect(await isLookedUp("/patients?q=person12")).toBe(true);
  expect(await isLookedUp("/patients?q=common&limit=3")).toBe(false);
  expect(await isLookedUp("/patients?q=common&limit=200")).toBe(false);
});

test("Postgres plans searches by words a few times per connection, and not once more for other words", async () => {
  const kinds: ((index: number) => string)[] = [
    (index) => `person${index}`,
    (index) => `common person${index}`,
    // So many are not looked up, but met on the way along the order of creation.
    () => "common",
    (index) => `nobody${index}@example.com`,
    (index) => `+1217555${1_000 + index}`,
  ];
  for (const term of kinds) {
    // One after the other, they use the same connection.
    for (let index = 0; index < 8; index++) await admin.send("GET", `/patients?q=${encodeURIComponent(term(index))}`);
    const before = await plans();
    for (let index = 8; index < 12; index++) await admin.send("GET", `/patients?q=${encodeURIComponent(term(index))}`);
    const after = await plans();
    const added = (what: "custom" | "kept") =>
      [...after].reduce((sum, [name, counts]) => sum + counts[what] - (before.get(name)?.[what] ?? 0), 0);
    expect({ custom: added("custom"), kept: added("kept") }, term(0)).toEqual({ custom: 0, kept: 4 });
  }
});

test("callers cannot make more statements by another limit or order", async () => {
  const names = async () => [...(await plans()).keys()].sort();
  const search = (term: string, more: string) => admin.send("GET", `/patients?q=${term}&${more}`);
  const terms = ["person1", "common+person2", "persn3"];
  for (const term of terms) await search(term, "limit=3");
  const before = await names();
  for (const term of terms) {
    for (const limit of [1, 2, 5, 50, 199]) await search(term, `limit=${limit}`);
    for (const sort of ["name", "-name", "dateOfBirth", "updatedAt"]) await search(term, `limit=3&sort=${sort}`);
  }
  expect(await names()).toEqual(before);
});

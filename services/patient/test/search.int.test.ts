/** A search that finds thousands, read in both ways that lists.ts has, over a real Postgres. */

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

/** More than twice as many as lists.ts looks up one by one: who sees half of them sees many. */
const people = 10_000;
const file = Array.from({ length: people }, (_, index) => `${JSON.stringify(someBody({ name: `Common Person${index}` }))}\n`).join("");

async function allPages(who: Client, sort: string): Promise<string[]> {
  const found: string[] = [];
  for (let cursor = ""; ; ) {
    const { status, body } = await who.send("GET", `/patients?q=common&limit=200&sort=${sort}${cursor}`);
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
  const isShared = (id: string) => Number.parseInt(id.slice(-2), 16) < 128;
  const some = service.as("user");
  await service.db.pool.query("insert into patient_access (patient_id, principal, granted_by) select unnest($1::uuid[]), $2, 'test'", [
    byCreation.filter(isShared),
    `user:${some.caller.id}`,
  ]);

  // Without statistics Postgres expects a few, with them what there is.
  for (const round of ["gathered", "walked"]) {
    if (round === "walked") await owner.query({ name: "analyze", text: "analyze patients, patient_access" }, []);
    expect(await allPages(admin, "createdAt"), round).toEqual(byCreation);
    expect(await allPages(admin, "-createdAt"), round).toEqual(byCreation.toReversed());
    expect(await allPages(some, "createdAt"), round).toEqual(byCreation.filter(isShared));
    expect(await allPages(some, "-name"), round).toEqual(byName.filter(isShared).toReversed());
  }
  const { body: first } = await admin.send("GET", "/patients?q=common");
  expect(first.totalEstimate).toBeGreaterThan(5_000);
});

/**
 * Creates and imports that refuse duplicates: they look before they take the lock of newcomers, and still miss nobody.
 */

import { query } from "@pm/stack/native/postgres";
import { expect, test } from "vitest";
import { findByAnyKey, findWrittenSince, maxWritten, readSnapshot } from "../src/matching/candidates-store.ts";
import { patientsOfThisFile, stranger } from "./testing.ts";

const { database, service, admin } = await patientsOfThisFile({ settings: { emailRequired: false, addressRequired: false } });
const rows = async (text: string) => (await service.db.pool.query(text)).rows;

/** Two may be stored as one person's, so they have no address, which only one may have. */
const somebody = () => stranger({ email: undefined });
const refusing = {
  create: (body: object) => admin.send("POST", "/patients?duplicates=refuse", body),
  import: (body: object) =>
    service
      .as("admin")
      .send("POST", "/patients:import?duplicates=refuse", JSON.stringify(body), { "content-type": "application/x-ndjson" }),
};
/** Runs something while a request waits for the lock, after it has looked. Gives the answer to the request. */
const whileWaiting = <Answer>(send: () => Promise<Answer>, work: () => Promise<unknown>) =>
  asOwner(async (run) => {
    await run(`select pg_advisory_lock(${newcomers})`);
    const sent = send();
    await expect.poll(() => locks(false), { timeout: 10_000 }).toHaveLength(1);
    await work();
    return { sent };
  }).then(({ sent }) => sent);
/** Whether a patient was stored. */
const isStored = async (sent: ReturnType<(typeof refusing)["create"]>) => {
  const { status, body } = await sent;
  expect([200, 201, 409]).toContain(status);
  return status === 201 || body.created === 1;
};

const newcomers = "hashtextextended('newcomers', 0)";
/** Who has the lock of newcomers, or waits for it. */
const locks = (granted: boolean) =>
  rows(`select 1 from pg_locks where locktype = 'advisory' and database = (select oid from pg_database where datname = current_database())
    and (classid::bigint << 32 | objid::bigint) = ${newcomers} and granted = ${granted}`);
const looking = () => rows(`select 1 from pg_stat_activity where wait_event_type = 'Lock' and query like '%match_keys @>%'`);
/** Lets somebody use a connection of the owner while requests run. */
const asOwner = <Result>(work: (run: (text: string) => Promise<unknown>) => Promise<Result>) =>
  query(database.migrationDatabaseUrl, (connection) => work((text) => connection.query(text)));

for (const [kind, send] of Object.entries(refusing))
  test(`while a refusing ${kind} looks for duplicates, nobody else waits for it`, async () => {
    const sent = await asOwner(async (run) => {
      await run("begin");
      await run("lock table patients in access exclusive mode");
      const sent = isStored(send(somebody()));
      await expect.poll(looking, { timeout: 10_000 }).toHaveLength(1);
      expect(await locks(true)).toEqual([]);
      await run("commit");
      return { sent };
    });
    expect(await sent.sent).toBe(true);
  });

for (const [kind, send] of Object.entries(refusing)) {
  test(`a refusing ${kind} meets whoever was stored after it looked, and stores who is like nobody`, async () => {
    const [person, other] = [somebody(), somebody()];
    const sent = await asOwner(async (run) => {
      await run(`select pg_advisory_lock(${newcomers})`);
      const sent = [isStored(send(person)), isStored(refusing.import(other))];
      await expect.poll(() => locks(false), { timeout: 10_000 }).not.toEqual([]);
      expect((await admin.send("POST", "/patients?duplicates=allow", person)).status).toBe(201);
      return sent;
    });
    expect(await Promise.all(sent)).toEqual([false, true]);
  });

  test(`a refusing ${kind} meets whoever was being written when it looked`, async () => {
    const person = somebody();
    const { body } = await admin.send("POST", "/patients", person);
    await admin.send("DELETE", `/patients/${body.id}`);
    const sent = await asOwner(async (run) => {
      await run(`select pg_advisory_lock(${newcomers})`);
      await run("begin");
      await run(`update patients set deleted_at = null, version = version + 1 where id = '${body.id}'`);
      const sent = isStored(send(person));
      await expect.poll(() => locks(false), { timeout: 10_000 }).toHaveLength(1);
      await run("commit");
      return { sent };
    });
    expect(await sent.sent).toBe(false);
  });
}

test("a refusal names nobody who was deleted, or hidden from the caller, while the request waited, and shows others as they are", async () => {
  const [person, caller, owner] = [somebody(), service.as("user"), service.as("user")];
  const create = async (by = owner) => (await by.send("POST", "/patients?duplicates=allow", person)).body.id;
  const share = (id: string, users: string[]) => owner.send("PUT", `/patients/${id}/access`, { users, teams: [] });
  const [deleted, hidden, changed] = [await create(caller), await create(), await create(caller)];
  await share(hidden, [caller.caller.id]);
  const refused = () => caller.send("POST", "/patients?duplicates=refuse", person);
  const namesOf = ({ body }: Awaited<ReturnType<typeof refused>>) =>
    body.candidates.map(({ patient }: { patient: { id: string; version: number } }) => [patient.id, patient.version]);
  expect(namesOf(await refused()).toSorted()).toEqual([deleted, hidden, changed].map((id) => [id, 1]).toSorted());

  const answer = await whileWaiting(refused, async () => {
    expect((await caller.send("DELETE", `/patients/${deleted}`)).status).toBe(204);
    expect((await share(hidden, [])).status).toBe(200);
    expect((await caller.send("PATCH", `/patients/${changed}`, { sex: "female" })).status).toBe(200);
  });
  expect(namesOf(answer)).toEqual([[changed, 2]]);
});

for (const [kind, send] of Object.entries(refusing))
  test(`a refusing ${kind} stores somebody if whoever was like them is deleted while it waits`, async () => {
    const person = somebody();
    const { body } = await admin.send("POST", "/patients", person);
    expect(
      await whileWaiting(
        () => isStored(send(person)),
        () => admin.send("DELETE", `/patients/${body.id}`),
      ),
    ).toBe(true);
  });

test("however many were stored while a refusing create waited, it reads few of them, and meets whoever is like it", async () => {
  const person = somebody();
  const { body } = await admin.send("POST", "/patients", somebody());
  const snapshot = await readSnapshot(service.db);
  const sent = await whileWaiting(
    () => isStored(refusing.create(person)),
    async () => {
      await admin.send("POST", "/patients?duplicates=allow", person);
      expect(await findWrittenSince(service.db, snapshot)).not.toBe(findByAnyKey);
      await query(database.migrationDatabaseUrl, (connection) =>
        connection.query(
          `insert into patients select (jsonb_populate_record(p, jsonb_build_object('id', gen_random_uuid(), 'changed_xid', pg_current_xact_id()::text))).*
         from patients p, generate_series(1, ${maxWritten}) where p.id = '${body.id}'`,
        ),
      );
      expect(await findWrittenSince(service.db, snapshot)).toBe(findByAnyKey);
    },
  );
  expect(sent).toBe(false);
});

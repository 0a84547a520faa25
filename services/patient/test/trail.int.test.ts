/** What auditors read of the trail of a service: filters, pages, files, blocks, and whom lists showed. */

import { randomUUID } from "node:crypto";
import { startAuditSealer } from "@pm/kit/audit/audit";
import { createLogger } from "@pm/kit/log";
import { testLifecycle } from "@pm/kit/test/lifecycle";
import { query } from "@pm/stack/native/postgres";
import { expect, test } from "vitest";
import { type Client, patientsOfThisFile, someBody } from "./testing.ts";

const { database, service, admin } = await patientsOfThisFile({ others: {} });
const auditor = service.as("auditor");

type Entry = {
  id: string;
  at: string;
  actor: string;
  action: string;
  subject: string;
  requestId: string;
  block?: { number: string; hash: string };
};

async function create(by: Client = admin): Promise<string> {
  return (await by.send("POST", "/patients", someBody())).body.id;
}

async function entries(search: string): Promise<Entry[]> {
  const { status, body } = await auditor.send("GET", `/audit/patient?${search}`);
  expect(status).toBe(200);
  return body.items;
}
const actionsOf = async (search: string) => (await entries(search)).map(({ action }) => action);

/** Seals every entry that was written. */
async function seal(): Promise<void> {
  const lifecycle = testLifecycle();
  const settings = { url: database.databaseUrl };
  startAuditSealer({ db: service.db, settings, log: createLogger("test", "silent"), lifecycle }).wake();
  const waiting = async () => (await service.db.pool.query("select count(*)::int as n from audit_unsealed")).rows[0].n;
  await expect.poll(waiting, { timeout: 10_000 }).toBe(0);
  await lifecycle.shutdown("test");
}

test("entries are found by patient, actor, action, request and period, the newest first", async () => {
  const [id, other] = [await create(), await create()];
  const clerk = service.as("billing");
  const requestId = randomUUID();
  await clerk.send("GET", `/patients/${id}`, undefined, { "x-request-id": requestId });
  await admin.send("GET", `/patients/${other}`);
  const before = new Date().toISOString();
  await admin.send("PATCH", `/patients/${id}`, { name: "Changed" });

  expect(await actionsOf(`patient=${id}&disclosures=true`)).toEqual(["patient.updated", "patient.read", "patient.registered"]);
  expect(await entries(`actor=${clerk.caller.id}`)).toMatchObject([{ action: "patient.read", subject: id, requestId }]);
  expect(await entries(`requestId=${requestId}`)).toMatchObject([{ actor: clerk.caller.id, subject: id }]);
  expect(await actionsOf(`patient=${id}&action=patient.updated`)).toEqual(["patient.updated"]);
  expect(await actionsOf(`patient=${id.toUpperCase()}&from=${before}&disclosures=true`)).toEqual(["patient.updated"]);
  expect(await actionsOf(`patient=${id}&to=${before}&disclosures=true`)).toEqual(["patient.read", "patient.registered"]);
  expect(await actionsOf(`patient=${id}&actor=nobody`)).toEqual([]);
});

test("pages follow each other without a gap, and a page in the middle is found as fast as the first", async () => {
  const id = await create();
  for (let version = 1; version < 8; version++) await admin.send("PATCH", `/patients/${id}`, { name: `Name ${version}` });
  const all = await entries(`patient=${id}&disclosures=true`);
  expect(all).toHaveLength(8);
  const paged: Entry[] = [];
  for (let cursor = ""; ; ) {
    const { body } = await auditor.send("GET", `/audit/patient?patient=${id}&disclosures=true&limit=3${cursor}`);
    paged.push(...body.items);
    if (body.nextCursor === undefined) break;
    cursor = `&cursor=${body.nextCursor}`;
  }
  expect(paged.map((entry) => entry.id)).toEqual(all.map((entry) => entry.id));
});

test("lists, searches and exports are entries about each patient whom they showed, and about no other", async () => {
  const owner = service.as("user");
  const [shown, alsoShown] = [await create(owner), await create(owner)];
  const hidden = await create();
  await owner.send("GET", "/patients");
  await owner.send("GET", "/patients?q=lovelace&limit=1");
  await owner.send("GET", "/patients:export");
  const listed = async (id: string) => (await actionsOf(`patient=${id}&actor=${owner.caller.id}`)).filter((action) => /ed$/.test(action));
  expect((await listed(shown)).toSorted()).toEqual(["patient.exported", "patient.listed", "patient.listed", "patient.registered"]);
  expect((await listed(alsoShown)).toSorted()).toEqual(["patient.exported", "patient.listed", "patient.registered"]);
  expect(await listed(hidden)).toEqual([]);
});

test("the trail of a survivor has the looks at the records that were merged into it", async () => {
  const owner = service.as("user");
  const [survivor, duplicate] = [await create(owner), await create(owner)];
  await owner.send("GET", `/patients/${duplicate}`);
  await owner.send("GET", "/patients");
  const body = { duplicateId: duplicate, duplicateVersion: 1 };
  const merged = await admin.send("POST", `/patients/${survivor}:merge`, body, { "if-match": "*" });
  expect(merged.status).toBe(200);
  const seen = async (id: string) => (await actionsOf(`patient=${id}&actor=${owner.caller.id}`)).toSorted();
  expect(await seen(survivor)).toEqual(["patient.listed", "patient.read", "patient.registered", "patient.registered"]);
  expect(await seen(duplicate)).toEqual(["patient.listed", "patient.read", "patient.registered"]);
});

test("an entry names its block, which the verification of the range gives as its head", async () => {
  const id = await create();
  await seal();
  const [entry] = await entries(`patient=${id}&action=patient.registered`);
  const { number = "", hash } = entry?.block ?? {};
  const verify = async (from: string | number, blocks = 1) =>
    (await auditor.send("GET", `/audit/patient:verify?from=${from}&blocks=${blocks}`)).body;
  const range = await verify(number);
  expect(range).toMatchObject({ intact: true, from: number, to: number, head: `${number}:${hash}` });
  expect(await verify(1, 100)).toMatchObject({ intact: true, from: "1", previousHash: "0".repeat(64) });
  const before = Number(number) - 1;
  if (before > 0) expect((await verify(before)).head).toBe(`${before}:${range.previousHash}`);
  expect(await verify(1_000_000)).toEqual({ intact: true, from: "1000000", to: "999999", entries: 0 });

  // Somebody with all rights in the database.
  await query(database.migrationDatabaseUrl, (owner) =>
    owner.query("update audit_entries set actor = 'nobody' where id = $1", [entry?.id]),
  );
  expect(await verify(number)).toMatchObject({ intact: false, entryId: entry?.id, problem: "it was changed after it was sealed" });
  await query(database.migrationDatabaseUrl, (owner) =>
    owner.query("update audit_entries set actor = $2 where id = $1", [entry?.id, admin.caller.id]),
  );
  expect(await verify(number)).toMatchObject({ intact: true });
});

test("a file of the trail has the same entries, as NDJSON and as CSV", async () => {
  const id = await create();
  await admin.send("GET", `/patients/${id}`);
  const list = await entries(`patient=${id}&disclosures=true`);
  const ndjson = await auditor.send("GET", `/audit/patient:export?patient=${id}&disclosures=true`);
  expect(
    ndjson.text
      .trim()
      .split("\n")
      .map((line) => JSON.parse(line)),
  ).toEqual(list);
  const csv = await auditor.send("GET", `/audit/patient:export?patient=${id}&disclosures=true&format=csv`);
  expect(csv.headers.get("content-type")).toBe("text/csv; charset=utf-8");
  const [head, ...rows] = csv.text.trim().split("\n");
  expect(head).toBe("id,at,actor,action,subject,requestId,block,blockHash,details");
  expect(rows.map((row) => row.split(",").slice(0, 5))).toEqual(
    list.map(({ id: entryId, at, actor, action, subject }) => [entryId, at, actor, action, subject]),
  );
});

test("reading the trail is an entry itself, about the patient if it was about one", async () => {
  const id = await create();
  const requestId = randomUUID();
  await auditor.send("GET", `/audit/patient?patient=${id}&action=patient.read`, undefined, { "x-request-id": requestId });
  expect(await entries(`requestId=${requestId}`)).toMatchObject([
    { actor: auditor.caller.id, action: "audit.read", subject: id, details: { action: "patient.read", disclosures: "false" } },
  ]);
  expect(await actionsOf(`patient=${id}&disclosures=true`)).toEqual(["patient.registered"]);
});

test("only auditors read it, also not administrators; a wrong question is told what is wrong", async () => {
  for (const role of ["admin", "user", "billing", "analyst"] as const)
    for (const path of ["/audit/patient", "/audit/patient:export", "/audit/patient:verify", `/patients/${randomUUID()}/disclosures`])
      expect([role, path, (await service.as(role).send("GET", path)).status]).toEqual([role, path, 403]);
  for (const [search, path] of [
    ["from=yesterday", "from"],
    ["from=2026-02-01T00:00:00Z&to=2026-01-01T00:00:00Z", "to"],
    ["actor=Ada Lovelace", "actor"],
    ["patient=ada", "patient"],
    ["cursor=x", "cursor"],
    ["limit=501", "limit"],
  ]) {
    const { status, body } = await auditor.send("GET", `/audit/patient?${encodeURI(search ?? "")}`);
    expect([search, status, body.errors?.[0]?.path]).toEqual([search, 400, path]);
  }
});

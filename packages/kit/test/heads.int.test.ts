/** Published heads: whoever rewrites a trail, and all hashes with it, is found out by what was published before. */
import { generateKeyPairSync, type KeyObject } from "node:crypto";
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { startPostgres } from "@pm/stack/native/postgres";
import { Kysely, PostgresDialect } from "kysely";
import { Pool } from "pg";
import { afterAll, expect, test } from "vitest";
import { createAuditTables } from "../src/audit/audit.ts";
import { publishHead, readKnownBlocks } from "../src/audit/heads.ts";
import { createAuditPatients } from "../src/audit/migrations.ts";
import { divideTrail } from "../src/audit/months.ts";
import { verifyAudit } from "../src/audit/verify.ts";
import { createLogger } from "../src/log.ts";
import { sealAll } from "./sealing.ts";

const log = createLogger("test", "silent");
const postgres = await startPostgres({ durable: false });
const directory = mkdtempSync(join(tmpdir(), "pm-heads-"));
const { databaseUrl, migrationDatabaseUrl } = await postgres.createDatabase("audited", "heads");
const owner = new Pool({ connectionString: migrationDatabaseUrl, max: 4 });
const superuser = new Pool({ connectionString: postgres.url, max: 1 });
await superuser.query("create role audited_anchor login password 'anchor'");
await superuser.query("grant connect on database heads to audited_anchor");
const anchorUrl = Object.assign(new URL(databaseUrl), { username: "audited_anchor", password: "anchor" }).href;
const anchor = new Pool({ connectionString: anchorUrl, max: 1 });
const db = new Kysely<unknown>({ dialect: new PostgresDialect({ pool: owner }) });
await createAuditTables(db, "audited");
await createAuditPatients(db, "audited");
await divideTrail(db, "audited", log);
for (const pool of [owner, superuser, anchor]) pool.on("error", () => undefined);
afterAll(async () => {
  await Promise.all([db.destroy(), superuser.end(), anchor.end()]);
  await postgres.stop();
  rmSync(directory, { recursive: true, force: true });
});

const keys = generateKeyPairSync("ec", { namedCurve: "P-256" });
const keyFile = join(directory, "public.pem");
writeFileSync(keyFile, keys.publicKey.export({ type: "spki", format: "pem" }));
const folder = join(directory, "audited");
let hour = 0;
const publish = (key: KeyObject = keys.privateKey) =>
  publishHead(anchor, { service: "audited", key, directory: folder, now: new Date(Date.UTC(2026, 10, 28, hour++)) });
const known = (path = folder) => readKnownBlocks(path, keyFile, "audited");

/** Writes entries and seals them in a block of their own. */
async function block(entries = 5): Promise<void> {
  await owner.query(
    "insert into audit_entries (actor, action, subject, request_id) select 'user', 'patient.read', 'patient', 'r' from generate_series(1, $1)",
    [entries],
  );
  await sealAll(databaseUrl);
}

/** Changes an entry of a block, and builds this block and all later ones again: the chain is as good as before. */
async function rewrite(number: number): Promise<void> {
  const { rows } = await owner.query<{ entry_ids: bigint[] }>(
    "with gone as (delete from audit_blocks where number >= $1 returning number, entry_ids) select entry_ids from gone order by number",
    [number],
  );
  await owner.query("update audit_entries set actor = 'nobody' where id = $1", [rows[0]?.entry_ids[0]]);
  for (const { entry_ids } of rows) {
    await owner.query("insert into audit_unsealed select unnest($1::bigint[])", [entry_ids]);
    await sealAll(databaseUrl);
  }
}

test("a chain without a block has heads too, and the first block follows them", async () => {
  const early = join(directory, "early");
  const publishEarly = (minute: number) =>
    publishHead(anchor, { service: "audited", key: keys.privateKey, directory: early, now: new Date(Date.UTC(2026, 10, 27, 0, minute)) });
  expect(await publishEarly(0)).toMatchObject({ number: 0n });
  expect(await publishEarly(1)).toMatchObject({ number: 0n });
  await block();
  expect(await publishEarly(2)).toMatchObject({ number: 1n });
  expect(await verifyAudit(owner, await known(early))).toMatchObject({ intact: true, blocks: 1 });
});

test("a head is signed, and has the number, the hash and the time; its role reads numbers and hashes only", async () => {
  for (let number = 2; number <= 3; number++) await block();
  const head = await publish();
  const { rows } = await owner.query("select number, encode(hash, 'hex') as hash from audit_blocks order by number desc limit 1");
  expect(head).toMatchObject({ service: "audited", ...rows[0], time: "2026-11-28T00:00:00.000Z" });
  const [header] = readFileSync(join(folder, readdirSync(folder)[0] ?? ""), "utf8").split(".");
  expect(JSON.parse(Buffer.from(header ?? "", "base64url").toString())).toMatchObject({ alg: "ES256", kid: expect.any(String) });
  for (const statement of [
    "select * from audit_entries",
    "select entry_ids from audit_blocks",
    "insert into audit_blocks (number) values (9)",
  ])
    await expect(anchor.query(statement)).rejects.toThrow("permission denied");
  for (let number = 4; number <= 6; number++) await block();
  await publish();
  await block();
  expect(await verifyAudit(owner, await known())).toMatchObject({ intact: true, blocks: 7 });
});

test("a trail that was rewritten consistently verifies by itself; yesterday's heads name the first block that differs", async () => {
  await rewrite(5);
  expect(await verifyAudit(owner)).toMatchObject({ intact: true, blocks: 7 });
  const report = await verifyAudit(owner, await known());
  expect(report).toMatchObject({ intact: false, problem: expect.stringMatching(/^block 5 is not the one of the head of 2026-11-28T01/) });
  const { rows } = await owner.query("select entry_ids[1]::text as first from audit_blocks where number = 5");
  expect(report).toMatchObject({ entryId: rows[0].first });
  // One head alone tells it for the blocks since the head before.
  expect(await verifyAudit(owner, await known(join(folder, readdirSync(folder).sort()[1] ?? "")))).toEqual(report);
  expect(await verifyAudit(owner, await known(join(folder, readdirSync(folder).sort()[0] ?? "")))).toMatchObject({ intact: true });
});

test("no further head is published of a chain that is not the one of the head before", async () => {
  await expect(publish()).rejects.toThrow(/block 6 of audited is not the one whose head was published at 2026-11-28T01/);
  expect(readdirSync(folder)).toHaveLength(2);
});

test("a chain whose end was cut off ends before the head", async () => {
  await owner.query("delete from audit_blocks where number >= 5");
  await owner.query("delete from audit_entries where id > (select max(i) from audit_blocks, unnest(entry_ids) i)");
  expect(await verifyAudit(owner)).toMatchObject({ intact: true });
  expect(await verifyAudit(owner, await known())).toMatchObject({ intact: false, problem: expect.stringContaining("cut off") });
});

test("a head that another key has signed, or that is of another service, is refused", async () => {
  const other = generateKeyPairSync("ec", { namedCurve: "P-256" });
  const strange = join(directory, "strange");
  await publishHead(anchor, { service: "audited", key: other.privateKey, directory: strange, now: new Date() });
  await expect(known(strange)).rejects.toThrow("is not signed by this key");
  await expect(readKnownBlocks(folder, keyFile, "billing")).rejects.toThrow("is no head of the trail of billing");
});

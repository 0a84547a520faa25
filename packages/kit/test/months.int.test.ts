/** The trail in months: divided while it is written, sealed month by month, and proven after months were dropped. */
import { startPostgres } from "@pm/stack/native/postgres";
import { Kysely, PostgresDialect } from "kysely";
import { Pool } from "pg";
import { afterAll, expect, test } from "vitest";
import { createAuditTables } from "../src/audit/audit.ts";
import { knownHead } from "../src/audit/heads.ts";
import { createAuditPatients } from "../src/audit/migrations.ts";
import { divideTrail } from "../src/audit/months.ts";
import { dropMonths } from "../src/audit/retention.ts";
import { verifyAudit, verifyBlocks } from "../src/audit/verify.ts";
import { createLogger } from "../src/log.ts";
import { sealAll } from "./sealing.ts";

const log = createLogger("test", "silent");
const postgres = await startPostgres({ durable: false });
const closers: (() => unknown)[] = [];
afterAll(async () => {
  for (const close of closers.reverse()) await close();
  await postgres.stop();
});
let count = 0;

/** A trail as the release before has it. */
async function openTrail() {
  const { databaseUrl, migrationDatabaseUrl } = await postgres.createDatabase("audited", `months_${++count}`);
  const owner = new Pool({ connectionString: migrationDatabaseUrl, max: 4 });
  const runtime = new Pool({ connectionString: databaseUrl, max: 8 });
  const db = new Kysely<unknown>({ dialect: new PostgresDialect({ pool: owner }) });
  for (const pool of [owner, runtime]) pool.on("error", () => undefined);
  closers.push(
    () => db.destroy(),
    () => runtime.end(),
  );
  await createAuditTables(db, "audited");
  await createAuditPatients(db, "audited");
  return {
    ...{ owner, runtime, db },
    /** Writes entries as of a moment. */
    write: (entries: number, at: Date | string = new Date()) =>
      owner.query(
        `insert into audit_entries (occurred_at, actor, action, subject, request_id)
         select $2, 'user-' || n % 7, 'patient.read', 'patient-' || n % 11, 'request-' || n from generate_series(1, $1) n`,
        [entries, at],
      ),
    seal: () => sealAll(databaseUrl),
  };
}

/** A block of all entries, as the release before seals it. */
const sealBefore = `
  with hashed as (
    select id, sha256(convert_to(json_build_array(id::text, (extract(epoch from occurred_at) * 1000000)::bigint::text, actor, action, subject,
      request_id, details::text)::text, 'UTF8')) as hash from audit_entries
  ), block as (
    select array_agg(id order by id) as ids, array_agg(hash order by id) as hashes, string_agg(hash, ''::bytea order by id) as joined from hashed
  ), taken as (delete from audit_unsealed)
  insert into audit_blocks (number, entry_ids, entry_hashes, previous_hash, hash)
  select 1, ids, hashes, zero, sha256(zero || convert_to('1:' || array_to_string(ids, ',') || ':', 'UTF8') || joined)
  from block, (select decode(repeat('00', 32), 'hex') as zero) z`;

const who = { actor: "operator", requestId: "drop" };
const inMonth = (ago: number, day = 15) => {
  const now = new Date();
  return new Date(Date.UTC(now.getUTCFullYear(), now.getUTCMonth() - ago, day));
};
/** A trail with a first month, and four whole months before this one. */
async function openMonths() {
  const trail = await openTrail();
  await trail.write(40, inMonth(6));
  await divideTrail(trail.db, "audited", log, inMonth(5, 1));
  await trail.owner.query("select audit_make_months($1)", [inMonth(4)]);
  await trail.owner.query("select audit_make_months($1)", [inMonth(2)]);
  await trail.seal();
  return trail;
}

test("a trail is divided while it is written: no entry is lost, nobody waits for long, and the chain goes on", {
  timeout: 120_000,
}, async () => {
  const { owner, runtime, db, write, seal } = await openTrail();
  await write(1_000);
  await owner.query(sealBefore);
  for (let round = 0; round < 4; round++) await write(50_000);
  let [stopped, written, longest] = [false, 0, 0];
  const writers = Array.from({ length: 4 }, async () => {
    while (!stopped) {
      const started = performance.now();
      await runtime.query("insert into audit_entries (actor, action, subject, request_id) values ('a', 'b', 'c', 'd')");
      longest = Math.max(longest, performance.now() - started);
      written += 1;
    }
  });
  await divideTrail(db, "audited", log);
  const duringDivision = written;
  await expect.poll(() => written).toBeGreaterThan(duringDivision);
  stopped = true;
  await Promise.all(writers);
  process.stdout.write(`${written} entries meanwhile, the slowest in ${Math.round(longest)} ms\n`);
  expect(longest).toBeLessThan(1_000);
  await seal();
  expect(await verifyAudit(owner)).toMatchObject({ intact: true, entries: 201_000 + written, unsealed: 0 });
  const { rows } = await owner.query("select tableoid::regclass::text as part, count(*)::int as n from audit_entries group by 1");
  expect(rows).toEqual([{ part: "audit_entries_first", n: 201_000 + written }]);
  await divideTrail(db, "audited", log);
});

test("a block has entries of one month only, also where those of two months wait together", async () => {
  const { owner, write, seal } = await openMonths();
  for (const ago of [3, 2, 3, 1, 2]) await write(7, inMonth(ago));
  await seal();
  const { rows } = await owner.query(
    `select b.number, count(distinct date_trunc('month', e.occurred_at, 'UTC'))::int as months, bool_and(m.month = b.month) as own
     from audit_blocks b cross join unnest(b.entry_ids) as i (id) join audit_entries e using (id)
     join audit_months m on e.occurred_at >= m.month and e.occurred_at < m.until group by b.number`,
  );
  expect(rows.length).toBeGreaterThan(3);
  expect(rows.filter(({ months, own }) => months !== 1 || !own)).toEqual([]);
  expect(await verifyAudit(owner)).toMatchObject({ intact: true, entries: 75 });
});

test("months beyond retention are dropped within a second; what they leave is sealed, and proves the rest", async () => {
  const { owner, db, write, seal } = await openMonths();
  for (const ago of [4, 3]) {
    await write(30_000, inMonth(ago));
    await seal();
  }
  // One that was committed late, in between.
  await write(5, inMonth(2));
  await seal();
  await write(1, inMonth(3));
  await seal();
  await write(5, inMonth(1));
  await seal();
  const before = await verifyAudit(owner);
  if (!before.intact) throw new Error(before.problem);

  const started = performance.now();
  expect(await dropMonths(db, inMonth(2, 1), who)).toHaveLength(3);
  const milliseconds = performance.now() - started;
  process.stdout.write(`three months dropped in ${Math.round(milliseconds)} ms\n`);
  expect(milliseconds).toBeLessThan(1_000);
  expect((await owner.query("select count(*)::int as n from audit_entries where occurred_at < $1", [inMonth(2, 1)])).rows).toEqual([
    { n: 0 },
  ]);

  // Before they are sealed, the entries that say so prove nothing.
  expect(await verifyAudit(owner)).toMatchObject({ intact: false, problem: expect.stringContaining("not sealed") });
  await seal();
  const after = await verifyAudit(owner, knownHead(before.head));
  expect(after).toMatchObject({ intact: true, entries: 5 + 5 + 3 });
  for (let from = 1; from <= before.blocks; from += 1)
    expect([from, await verifyBlocks(owner, BigInt(from), 1)]).toMatchObject([from, { intact: true }]);
});

test("a month that was removed without an entry, or by an entry that somebody changed, is missing", async () => {
  const { owner, db, write, seal } = await openMonths();
  await write(10, inMonth(3));
  await seal();
  await write(10, inMonth(1));
  await seal();
  await dropMonths(db, inMonth(4, 1), who);
  await seal();
  expect(await verifyAudit(owner)).toMatchObject({ intact: true });
  await owner.query("delete from audit_blocks where month >= $1 and month < $2", [inMonth(3, 1), inMonth(2, 1)]);
  expect(await verifyAudit(owner)).toMatchObject({ intact: false, problem: expect.stringContaining("missing") });
  await owner.query(
    "update audit_entries set details = jsonb_set(details, '{blocks,0,to}', '\"99\"') where action = 'audit.month_dropped'",
  );
  expect(await verifyAudit(owner)).toMatchObject({ intact: false });
});

test("an entry is written alone, and no summary of the pages that are not full", async () => {
  const { owner, write } = await openMonths();
  for (const at of [inMonth(0), inMonth(6)]) {
    await write(50, at);
    const { rows } = await owner.query(
      `explain (analyze, wal, format json) insert into audit_entries (occurred_at, actor, action, subject, request_id)
       values ($1, gen_random_uuid()::text, 'patient.read', gen_random_uuid()::text, gen_random_uuid()::text)`,
      [at],
    );
    expect(rows[0]["QUERY PLAN"][0].Plan["WAL Bytes"]).toBeLessThan(1_000);
  }
});

test("the service makes the months ahead, and drops none", async () => {
  const { owner, runtime, write } = await openMonths();
  await runtime.query("select audit_ensure_months()");
  await write(1, inMonth(-1));
  for (const statement of ["drop table audit_entries_first", "delete from audit_months", "select audit_make_months(now())"])
    await expect(runtime.query(statement)).rejects.toThrow(/permission denied|must be owner/);
  expect((await owner.query("select max(month) as month from audit_months")).rows).toEqual([{ month: inMonth(-2, 1) }]);
});

/** `npm run doctor` on a real platform: it is silent about what is well, and names each fault that is made here. */
import { spawn } from "node:child_process";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { Finding } from "@pm/kit/doctor/findings";
import { query } from "@pm/stack/native/postgres";
import { afterAll, beforeAll, expect, test, vi } from "vitest";
import { admin, dataDir, platform, startWithAdmin, stopPlatform } from "./e2e/admin.ts";
import { type PatientAnswer, person } from "./e2e/client.ts";

// Each look starts four processes, and what was broken needs a while to be well again.
vi.setConfig({ testTimeout: 240_000 });

beforeAll(startWithAdmin);
afterAll(stopPlatform);

async function doctor(args: string[] = [], folder = dataDir): Promise<{ code: number; text: string }> {
  const program = join(import.meta.dirname, "doctor.ts");
  const child = spawn(process.execPath, [program, ...args], { env: { ...process.env, PM_DATA_DIR: folder } });
  let text = "";
  for (const stream of [child.stdout, child.stderr]) stream.setEncoding("utf8").on("data", (part: string) => (text += part));
  const code = await new Promise<number>((resolve) => child.once("close", resolve));
  return { code, text };
}

/** What is not well, as the part, the sentence and the document. */
async function complaints(): Promise<{ code: number; said: string[] }> {
  const { code, text } = await doctor(["--json"]);
  const found = (JSON.parse(text) as Finding[]).filter(({ state }) => state !== "well");
  return { code, said: found.map(({ part, says, help }) => `${part}: ${says} ${help}`) };
}

const sql = (database: string, text: string) =>
  query(Object.assign(new URL(platform.postgres.url), { pathname: `/${database}` }).href, (client) => client.query(text));

async function create(): Promise<string> {
  const answer = await admin.send("POST", "/patients", person());
  expect(answer.status, answer.text).toBe(201);
  return (answer.body as PatientAnswer).id;
}

const well = { code: 0, said: [] };
const untilWell = () => expect.poll(complaints, { timeout: 120_000, interval: 1_000 }).toEqual(well);

test("of a platform that is well it says so of each part, and exits with 0", async () => {
  await create();
  await untilWell();
  const { code, text } = await doctor();
  expect(code).toBe(0);
  expect(text).not.toMatch(/^(wrong|unseen)/m);
  for (const part of ["patient", "billing", "auth", "analytics", "gateway", "Kafka", "database of patient"])
    expect(text).toMatch(new RegExp(`^well {4}${part}: `, "m"));
  expect(text).toMatch(/^well {4}database of billing: The ledger is proven: \d+ transactions\.$/m);
  expect(text).toMatch(/^well {4}database of patient: The audit chain is intact: \d+ entries\.$/m);
});

test("where no platform runs it could not look, and exits with 2", async () => {
  const { code, text } = await doctor([], tmpdir());
  expect([code, text]).toEqual([2, "npm run doctor: There is no platform here: run `npm start` first.\n"]);
});

test("a broker that answers nothing is named, and so is the outbox that waits for it", async () => {
  await platform.kafka.pause();
  try {
    await create();
    await sql("patient", "update outbox set created_at = created_at - interval '12 minutes'");
    const { code, said } = await complaints();
    expect(code).toBe(1);
    expect(said).toContainEqual(expect.stringMatching(/^Kafka: It does not answer at 127\.0\.0\.1:\d+ .*OutboxStuck\.md$/));
    // A slow machine takes a minute or two until it looks.
    expect(said).toContainEqual(
      expect.stringMatching(/^patient: Events wait to be published, the oldest for 1\d minutes\. .*OutboxStuck\.md$/),
    );
  } finally {
    await platform.kafka.resume();
  }
  await untilWell();
});

test("a dead letter is counted until somebody has replayed it", async () => {
  const id = await create();
  await untilWell();
  await sql("analytics", `alter table events add constraint refused check (subject <> '${id}') not valid`);
  expect((await admin.send("PATCH", `/patients/${id}`, { name: "Somebody Else" })).status).toBe(200);
  const said = ["analytics: One event waits that the consumer group analytics could not apply. docs/runbooks/DeadLettersWaiting.md"];
  await expect.poll(complaints, { timeout: 60_000, interval: 1_000 }).toEqual({ code: 1, said });
  await sql("analytics", "alter table events drop constraint refused");
  expect((await admin.send("POST", "/analytics/dead-letters:replay")).status).toBe(200);
  await untilWell();
});

test("a migration that is missing is named", async () => {
  const last = "select max(name) from kysely_migration";
  const { rows } = await sql("billing", `delete from kysely_migration where name = (${last}) returning name, timestamp`);
  const [{ name, timestamp }] = rows as [{ name: string; timestamp: string }];
  const said = [`database of billing: It lacks a migration of this release: ${name}. docs/runbooks/MigrationFailed.md`];
  expect(await complaints()).toEqual({ code: 1, said });
  await sql("billing", `insert into kysely_migration values ('${name}', '${timestamp}')`);
  await untilWell();
});

test("an entry of the audit trail that was changed is named", async () => {
  await expect.poll(async () => (await sql("auth", "select from audit_unsealed")).rowCount, { timeout: 10_000 }).toBe(0);
  const change = (from: string, to: string) =>
    sql("auth", `update audit_entries set actor = ${to} where id = (select min(id) from audit_entries) and actor = ${from} returning id`);
  const { rows } = await sql("auth", "select id, actor from audit_entries order by id limit 1");
  const [{ id, actor }] = rows as [{ id: bigint; actor: string }];
  await change(`'${actor}'`, "'nobody'");
  const said = [`database of auth: The audit chain is broken at entry ${id}: it was changed after it was sealed. docs/audit.md`];
  expect(await complaints()).toEqual({ code: 1, said });
  await change("'nobody'", `'${actor}'`);
  await untilWell();
});

test("a service that is stopped, and one that was frozen, do not answer", async () => {
  await platform.services.billing.stop();
  await platform.services.analytics.kill("SIGSTOP");
  const { code, said } = await complaints();
  expect(code).toBe(1);
  expect(said).toContainEqual(
    expect.stringMatching(/^billing: It does not answer at .* \(ECONNREFUSED\)\. docs\/runbooks\/ServiceDown\.md$/),
  );
  expect(said).toContainEqual(expect.stringMatching(/^analytics: It does not answer at .* docs\/runbooks\/ServiceDown\.md$/));
  await platform.services.analytics.kill("SIGCONT");
  await platform.services.billing.restart();
  await untilWell();
});

test("without Postgres, it is named, and the services that wait for it", async () => {
  await platform.postgres.kill();
  await expect
    .poll(async () => (await complaints()).said, { timeout: 30_000 })
    .toContainEqual("patient: It runs and is not ready: it waits for database. docs/runbooks/ReplicasMissing.md");
  const { code, said } = await complaints();
  expect(code).toBe(1);
  expect(said).toContainEqual(
    expect.stringMatching(/^database of billing: Postgres does not answer at .* \(ECONNREFUSED\)\. docs\/runbooks\/RequestErrors\.md$/),
  );
  await platform.postgres.start();
  await untilWell();
});

/** Exactly one patient, however many ask at once. Prints its figures. */
import { randomUUID } from "node:crypto";
import { type TestDatabase, testDatabase } from "@pm/stack/testing";
import { afterAll, beforeAll, expect, test } from "vitest";
import { type PatientApp, someBody, startPatientApp } from "./testing.ts";

const rounds = 1_000;
const parallel = 64;

let database: TestDatabase;
/** Two of them, as two replicas: what one process batches, the other one races. */
let services: PatientApp[];

beforeAll(async () => {
  database = await testDatabase("patient");
  services = await Promise.all([
    startPatientApp(database.databaseUrl, { poolSize: 5 }),
    startPatientApp(database.databaseUrl, { poolSize: 5 }),
  ]);
});
afterAll(async () => {
  for (const service of services ?? []) await service.close();
  await database?.drop();
});

/** Runs all rounds, a few at a time, and counts the answers of each. */
async function race(request: (round: number) => { body: unknown; headers?: Record<string, string> }) {
  const counts = new Map<number, number>();
  const perRound: number[][] = [];
  const ids: Set<string>[] = [];
  const id = randomUUID();
  const clients = services.map((service) => service.as("user", { id }));
  const started = performance.now();
  let next = 0;
  const runRounds = async () => {
    while (next < rounds) {
      const round = next++;
      const { body, headers } = request(round);
      const answers = await Promise.all(
        Array.from({ length: parallel }, (_, index) => clients[index % clients.length]?.send("POST", "/patients", body, headers)),
      );
      perRound[round] = answers.map((answer) => answer?.status ?? 0);
      ids[round] = new Set(answers.filter((answer) => answer?.status === 201).map((answer) => answer?.body.id));
      for (const status of perRound[round] ?? []) counts.set(status, (counts.get(status) ?? 0) + 1);
    }
  };
  await Promise.all([runRounds(), runRounds()]);
  const seconds = (performance.now() - started) / 1_000;
  return { counts, perRound, ids, seconds };
}

const print = (what: string, { counts, seconds }: Awaited<ReturnType<typeof race>>) =>
  process.stdout.write(
    `${what}: ${rounds} rounds of ${parallel} in ${seconds.toFixed(1)} s (${Math.round((rounds * parallel) / seconds)}/s); answers ${JSON.stringify(Object.fromEntries(counts))}\n`,
  );

const rowsPerEmail = async (like: string) =>
  (await services[0]?.db.pool.query("select count(*)::int as n from patients where email like $1 group by lower(email)", [like]))?.rows.map(
    (row) => row.n,
  ) ?? [];

test("1,000 rounds of 64 creates with one e-mail: one patient each, everybody else gets 409", { timeout: 300_000 }, async () => {
  const mark = randomUUID();
  const result = await race((round) => ({ body: someBody({ email: `${round}.${mark}@example.com` }) }));
  print("one e-mail", result);
  expect(result.perRound.filter((statuses) => statuses.filter((status) => status === 201).length !== 1)).toEqual([]);
  expect([...result.counts.keys()].sort()).toEqual([201, 409]);
  const rows = await rowsPerEmail(`%${mark}%`);
  expect([rows.length, rows.every((n) => n === 1)]).toEqual([rounds, true]);
});

test("1,000 rounds of 64 creates under one idempotency key: one patient each, everybody gets its answer", {
  timeout: 300_000,
}, async () => {
  const mark = randomUUID();
  const result = await race((round) => ({
    body: someBody({ email: `${round}.${mark}@example.com` }),
    headers: { "idempotency-key": `${mark}.${round}` },
  }));
  print("one idempotency key", result);
  expect([...result.counts.keys()]).toEqual([201]);
  expect(result.ids.filter((ids) => ids.size !== 1)).toEqual([]);
  const rows = await rowsPerEmail(`%${mark}%`);
  expect([rows.length, rows.every((n) => n === 1)]).toEqual([rounds, true]);
});

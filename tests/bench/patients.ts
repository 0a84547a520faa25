/** Lists and search at a million patients, and the outbox at a steady thousand creates a second. `BENCH_PATIENTS` makes it fewer. */
import { spawnSync } from "node:child_process";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { personAt } from "../seed/people.ts";
import type { Rows } from "./context.ts";

const patients = Number(process.env.BENCH_PATIENTS || 1_000_000);
const perSecond = 1_000;
const deepPage = 10_000;

export const rows: Rows = async ({ platform, http }) => {
  const base = platform.services.patient.url;
  let isSeeded = false;
  let cursor = "";
  let started = 0;
  const marker = Date.now().toString(36);

  const get = async (path: string) => JSON.parse(await http(base, "GET", path)) as { nextCursor?: string };

  /** Records only: what follows from a million new patients would be measured too. */
  async function seed(): Promise<void> {
    if (isSeeded) return;
    const command = [join(import.meta.dirname, "..", "seed", "seed.ts"), "--patients", String(patients), "--records-only"];
    const env = { ...process.env, MIGRATION_DATABASE_URL: platform.databases.patient.migrationDatabaseUrl };
    if (spawnSync(process.execPath, command, { env, stdio: "inherit" }).status !== 0) throw new Error("the seed failed");
    isSeeded = true;
  }

  /** Walks to a page by large pages: a cursor says where a list goes on, whatever the size of its pages. */
  async function walk(): Promise<void> {
    await seed();
    for (let rest = Math.min(deepPage * 50, patients - 100); rest > 0; rest -= 200)
      cursor = (await get(`/patients?sort=name&limit=${Math.min(rest, 200)}${cursor && `&cursor=${cursor}`}`)).nextCursor ?? "";
  }

  const terms = Array.from({ length: 500 }, (_, index) => {
    const { name, email, lastName = name, phoneNumber = "" } = personAt(Math.floor((index * patients) / 500), patients).record;
    return [lastName, name, lastName.slice(0, 4), email, phoneNumber, `${lastName.slice(0, 2)}${lastName.slice(3)}`][index % 6] ?? name;
  });

  /** One create at its time: the thousandth begins a second after the first, however long each takes. */
  async function createInTime(iteration: number): Promise<void> {
    started ||= performance.now() - (1_000 * iteration) / perSecond;
    await delay(Math.max(0, started + (1_000 * iteration) / perSecond - performance.now()));
    const body = { ...personAt(iteration, 1_000_000).record, email: `${marker}.${iteration}@example.com` };
    await http(base, "POST", "/patients", { body, status: 201 });
  }

  /** What the service says of its outbox: how long events waited, as the upper bound of the bucket that holds the 99th percentile. */
  async function checkOutbox(): Promise<void> {
    const metrics = await http(base, "GET", "/metrics", { anonymous: true });
    const buckets = [...metrics.matchAll(/^outbox_lag_seconds_bucket\{le="([^"]+)"\} (\d+)/gm)].map(
      ([, bound, count]) => [bound, Number(count)] as const,
    );
    const all = buckets.at(-1)?.[1] ?? 0;
    const bound = buckets.find(([, count]) => count >= 0.99 * all)?.[0];
    const pending = /^outbox_pending (\d+)/m.exec(metrics)?.[1];
    process.stdout.write(`outbox after ${all} events: ${pending} pending, 99 % published within ${bound} s\n`);
  }

  return [
    { name: `list 50 of ${patients} patients, page 1`, prepare: seed, request: () => get("/patients?sort=name") },
    {
      name: `list 50 of ${patients} patients, page ${deepPage}`,
      prepare: walk,
      request: () => get(`/patients?sort=name&cursor=${cursor}`),
    },
    {
      name: `search ${patients} patients`,
      // Searches are people's: what counts is how long one of them waits.
      concurrency: 2,
      prepare: seed,
      request: (_, iteration) => get(`/patients?q=${encodeURIComponent(terms[iteration % terms.length] ?? "")}`),
      limits: { p99Ms: 50 },
    },
    // Longer than the other rows, because an outbox that is not drained takes a while to show. Times have the waiting in them.
    {
      name: `create patient, ${perSecond}/s`,
      concurrency: 64,
      seconds: 60,
      request: (_, iteration) => createInTime(iteration),
      limits: { perSecond: 0.99 * perSecond },
    },
    { name: "get patients after that", seconds: 2, prepare: checkOutbox, request: () => get("/patients?limit=1") },
  ];
};

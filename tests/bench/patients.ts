/** Lists, search and imports at a million patients, and creates at a steady rate. `BENCH_PATIENTS` makes it fewer. */
import { spawnSync } from "node:child_process";
import { randomUUID } from "node:crypto";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { Client } from "pg";
import { personAt } from "../seed/people.ts";
import type { Rows } from "./context.ts";
import { type Row, residentMiB } from "./measure.ts";

const patients = Number(process.env.BENCH_PATIENTS || 1_000_000);
const seedSeconds = 180;
const deepPage = 10_000;
const wantedPerSecond = 1_000;
const linesPerFile = 5_000;

const say = (line: string) => process.stdout.write(`${line}\n`);
const percentile = (values: number[], share: number) =>
  values.toSorted((a, b) => a - b)[Math.min(values.length - 1, Math.floor(values.length * share))] ?? Number.NaN;

export const rows: Rows = async ({ platform, processes, http }) => {
  const base = platform.services.patient.url;
  const { migrationDatabaseUrl } = platform.databases.patient;
  const run = randomUUID().slice(0, 8);
  let seeded: number | undefined;
  let cursor = "";

  const get = async (path: string, as?: string) => JSON.parse(await http(base, "GET", path, { as })) as { nextCursor?: string };

  async function select<Row>(text: string, values: unknown[] = []): Promise<Row | undefined> {
    const client = new Client({ connectionString: migrationDatabaseUrl });
    await client.connect();
    const { rows } = await client.query(text, values);
    await client.end();
    return rows[0];
  }

  /** Records only: what follows from a million new patients would be measured too. */
  async function seed(): Promise<void> {
    if (seeded !== undefined) return;
    const command = [join(import.meta.dirname, "..", "seed", "seed.ts"), "--patients", String(patients), "--records-only"];
    const env = { ...process.env, MIGRATION_DATABASE_URL: migrationDatabaseUrl };
    const started = performance.now();
    if (spawnSync(process.execPath, command, { env, stdio: "inherit" }).status !== 0) throw new Error("the seed failed");
    seeded = (performance.now() - started) / 1_000;
    // The service seals the audit entries of all of them now, which is not to be measured with what comes next.
    for (
      let tries = 0;
      tries < 120 && (await select<{ left: boolean }>("select exists (select from audit_unsealed) as left"))?.left;
      tries++
    )
      await delay(1_000);
  }

  /**
   * A row over the seeded patients. Billing is stopped for as long: it finds a million patients without an account when it
   * reconciles, and would open them meanwhile.
   */
  function seededRow(row: Row): Row {
    const { pid } = platform.services.billing;
    return {
      ...row,
      async prepare() {
        await seed();
        await row.prepare?.();
        process.kill(pid, "SIGSTOP");
      },
      async after() {
        const missed = await row.after?.();
        process.kill(pid, "SIGCONT");
        return missed ?? [];
      },
    };
  }

  /** Walks to a page by large pages: a cursor says where a list goes on, whatever the size of its pages. */
  async function walk(): Promise<void> {
    for (let rest = Math.min(deepPage * 50, patients - 100); rest > 0; rest -= 200)
      cursor = (await get(`/patients?sort=name&limit=${Math.min(rest, 200)}${cursor && `&cursor=${cursor}`}`)).nextCursor ?? "";
  }

  /** The first page and the deep one in turn, so that whatever else the machine does slows both. */
  async function comparePages(): Promise<string[]> {
    const times: [number[], number[]] = [[], []];
    for (let i = 0; i < 600; i++) {
      const started = performance.now();
      await get(`/patients?sort=name${i % 2 === 0 ? "" : `&cursor=${cursor}`}`);
      times[i % 2]?.push(performance.now() - started);
    }
    const [first, deep] = times.map((each) => percentile(each, 0.5)) as [number, number];
    say(
      `page ${deepPage} takes ${(deep / first).toFixed(2)} times as long as page 1: ${deep.toFixed(2)} and ${first.toFixed(2)} ms (medians)`,
    );
    return deep > 1.1 * first ? [`page ${deepPage} is not within 10 % of page 1`] : [];
  }

  const kinds: Record<string, (person: ReturnType<typeof personAt>["record"]) => string> = {
    "last name": ({ name, lastName = name }) => lastName,
    "first name": ({ name, firstName = name }) => firstName,
    "whole name": ({ name }) => name,
    "four letters": ({ name, lastName = name }) => lastName.slice(0, 4),
    "three letters": ({ name, firstName = name }) => firstName.slice(0, 3),
    "e-mail": ({ email }) => email,
    "phone number": ({ phoneNumber = "" }) => phoneNumber,
    "area code": ({ phoneNumber = "" }) => phoneNumber.slice(2, 5),
    "one digit": ({ phoneNumber = "" }) => phoneNumber.slice(-1),
    "typing error": ({ name, lastName = name }) => `${lastName.slice(0, 2)}${lastName.slice(3)}`,
  };

  /** A search for people's names, numbers and addresses in turn. Searches are people's: what counts is how long one of them waits. */
  function search(name: string, tokenOf: () => Promise<string | undefined>): Row {
    let as: string | undefined;
    const times = new Map<string, number[]>(Object.keys(kinds).map((kind) => [kind, []]));
    return seededRow({
      name,
      concurrency: 2,
      seconds: 15,
      async prepare() {
        as = await tokenOf();
      },
      async request(_, iteration) {
        const [kind, termOf] = Object.entries(kinds)[iteration % times.size] ?? [];
        // The 9,973 next people after each other would have registered on one day; these are from everywhere.
        const term = termOf?.(personAt((iteration * 9_973) % patients, patients).record) ?? "";
        const started = performance.now();
        await get(`/patients?q=${encodeURIComponent(term)}`, as);
        times.get(kind ?? "")?.push(performance.now() - started);
      },
      after() {
        say(`p99 by kind, ms: ${[...times].map(([kind, each]) => `${kind} ${percentile(each, 0.99).toFixed(1)}`).join(", ")}`);
        return [];
      },
      limits: { p99Ms: 50 },
    });
  }

  /** The token of a new user with whom every `nth` patient is shared. */
  async function userWhoSees(nth: number): Promise<string> {
    const credentials = { email: `bench-${run}-${nth}@example.com`, password: `correct horse battery ${run}` };
    const { id } = JSON.parse(
      await http(platform.gatewayUrl, "POST", "/auth/users", { body: { ...credentials, name: "Bench", roles: ["user"] }, status: 201 }),
    ) as { id: string };
    await select(
      `insert into patient_access (patient_id, principal, granted_by) select id, $1, 'bench' from patients where abs(hashtext(id::text)) % $2 = 0`,
      [`user:${id}`, nth],
    );
    await select("vacuum (analyze) patient_access");
    const login = await http(platform.gatewayUrl, "POST", "/auth/login", { body: credentials, anonymous: true });
    return (JSON.parse(login) as { token: string }).token;
  }

  const residentNow = () => residentMiB({ patient: processes.patient ?? (() => []) }).patient ?? Number.NaN;
  const files: string[] = [];
  let imported = 0;
  let resident = Number.NaN;

  /** Files of people who are new each, made before the row so that making them is not measured. */
  function makeFiles(count: number): void {
    const line = (number: number) =>
      `${JSON.stringify({ ...personAt(number, 1_000_000).record, email: `${run}.${number}@example.com` })}\n`;
    for (let file = 0; file < count; file++)
      files.push(Array.from({ length: linesPerFile }, (_, index) => line(file * linesPerFile + index)).join(""));
  }

  /** One file, with what follows from its people: events, accounts, statistics. */
  async function importFile(): Promise<void> {
    const body = files.shift();
    if (body === undefined) throw new Error("there are no more files");
    const { created } = JSON.parse(await http(base, "POST", "/patients:import", { body })) as { created: number };
    if (created !== linesPerFile) throw new Error(`${created} of ${linesPerFile} lines were imported`);
    imported += created;
  }

  let rate = wantedPerSecond;
  let nextAt: number | undefined;
  let created = 0;
  let outboxBefore: Outbox | undefined;

  /** One create at its time, however long others take; gives how long after that time it was answered. */
  async function createInTime(): Promise<number> {
    const now = performance.now();
    nextAt ??= now;
    const at = nextAt;
    nextAt += 1_000 / rate;
    await delay(Math.max(0, at - now));
    const number = created++;
    const body = { ...personAt(number, 1_000_000).record, email: `${run}-${number}@example.com` };
    await http(base, "POST", "/patients", { body, status: 201 });
    return performance.now() - at;
  }

  type Outbox = { pending: number; lag: { bound: number; count: number }[] };

  /** What the service says of its outbox: what waits now, and how long events waited, in buckets that hold each other. */
  async function readOutbox(): Promise<Outbox> {
    const metrics = await http(base, "GET", "/metrics", { anonymous: true });
    const lag = [...metrics.matchAll(/^outbox_lag_seconds_bucket\{le="([^"]+)"\} (\d+)/gm)].map(([, bound, count]) => ({
      bound: bound === "+Inf" ? Number.POSITIVE_INFINITY : Number(bound),
      count: Number(count),
    }));
    return { pending: Number(/^outbox_pending (\d+)/m.exec(metrics)?.[1]), lag };
  }

  /** Since `before`: how many events went, and the bound under which 99 % of them waited. */
  function lagSince(before: Outbox, now: Outbox): { events: number; p99Seconds: number } {
    const counts = now.lag.map(({ bound, count }, index) => ({ bound, count: count - (before.lag[index]?.count ?? 0) }));
    const events = counts.at(-1)?.count ?? 0;
    return { events, p99Seconds: counts.find(({ count }) => count >= 0.99 * events)?.bound ?? Number.POSITIVE_INFINITY };
  }

  /** Ten seconds at a rate: whether as many creates were answered as begun, and events went out as they came. */
  async function holds(perSecond: number): Promise<boolean> {
    rate = perSecond;
    nextAt = undefined;
    const before = await readOutbox();
    const end = performance.now() + 10_000;
    const times: number[] = [];
    const work = async () => {
      while (performance.now() < end) times.push(await createInTime());
    };
    await Promise.all(Array.from({ length: 64 }, work));
    const late = percentile(times, 0.99);
    const now = await readOutbox();
    const { p99Seconds } = lagSince(before, now);
    say(
      `${perSecond} creates/s asked for: ${(times.length / 10).toFixed(0)}/s, p99 ${late.toFixed(0)} ms, lag p99 <= ${p99Seconds} s, ${now.pending} pending`,
    );
    return times.length >= 0.99 * 10 * perSecond && p99Seconds <= 0.5 && now.pending < perSecond;
  }

  const steady: Row = {
    name: "create patient, at the highest rate that holds for a minute",
    concurrency: 64,
    seconds: 60,
    async prepare() {
      for (const perSecond of [wantedPerSecond, 800, 600, 500, 400, 300, 200]) if (await holds(perSecond)) break;
      nextAt = undefined;
      outboxBefore = await readOutbox();
    },
    request: createInTime,
    limits: { perSecond: 0.99 * wantedPerSecond },
    async after() {
      const now = await readOutbox();
      if (!outboxBefore) return ["the outbox was not read before"];
      const { events, p99Seconds } = lagSince(outboxBefore, now);
      say(
        `outbox at ${rate} creates/s for a minute: ${events} events, lag p99 <= ${p99Seconds} s, ${now.pending} pending (${outboxBefore.pending} before)`,
      );
      return [
        ...(p99Seconds > 0.5 ? [`lag p99 ${p99Seconds} s > 0.5`] : []),
        ...(now.pending > rate ? [`${now.pending} events pending`] : []),
      ];
    },
  };

  return [
    steady,
    {
      name: `import patients, ${linesPerFile} in a file`,
      concurrency: 1,
      things: linesPerFile,
      seconds: 20,
      async prepare() {
        makeFiles(60);
        await importFile();
        resident = residentNow();
      },
      request: importFile,
      after() {
        say(
          `patient-service held ${resident.toFixed(0)} MiB after the first file and ${residentNow().toFixed(0)} after ${imported} patients`,
        );
        return [];
      },
      limits: { perSecond: 5_000 },
    },
    seededRow({
      name: `list 50 of ${patients} patients, page 1`,
      request: () => get("/patients?sort=name"),
      after: () => (seeded !== undefined && seeded > seedSeconds ? [`seeded in ${seeded.toFixed(0)} s > ${seedSeconds}`] : []),
    }),
    seededRow({
      name: `list 50 of ${patients} patients, page ${deepPage}`,
      prepare: walk,
      request: () => get(`/patients?sort=name&cursor=${cursor}`),
      after: comparePages,
    }),
    search(`search ${patients} patients`, async () => undefined),
    search(`search ${patients} patients as a user who sees 1 of 1,000`, () => userWhoSees(1_000)),
    search(`search ${patients} patients as a user who sees 1 of 5`, () => userWhoSees(5)),
  ];
};

/** The seed, lists and search at a million patients. `BENCH_PATIENTS` makes them fewer. */
import { spawn } from "node:child_process";
import { randomUUID } from "node:crypto";
import { once } from "node:events";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { query } from "@pm/stack/native/postgres";
import { personAt } from "../seed/people.ts";
import type { BenchContext, Rows } from "./context.ts";
import { percentile, type Row } from "./measure.ts";

const patients = Number(process.env.BENCH_PATIENTS || 1_000_000);
const deepPage = 10_000;
const maxWorkListSeconds = 900;
/** A match costs at most so many searches. */
const maxSearches = 3;

const say = (line: string) => process.stdout.write(`${line}\n`);

/** Seeds the patients once: records only, without the events and accounts that a million patients would bring. */
function createSeed({ platform, baselines }: BenchContext) {
  const { migrationDatabaseUrl } = platform.databases.patient;
  let seeded: Promise<void> | undefined;
  const fill = async () => {
    const command = [join(import.meta.dirname, "..", "seed", "seed.ts"), "--patients", String(patients), "--records-only"];
    const env = { ...process.env, MIGRATION_DATABASE_URL: migrationDatabaseUrl };
    const [code] = await once(spawn(process.execPath, command, { env, stdio: "inherit" }), "exit");
    if (code !== 0) throw new Error("the seed failed");
  };
  /** Patient-service seals the audit entries of all of them. Wait for that, or the next row would measure it. */
  const untilSealed = () =>
    query(migrationDatabaseUrl, async (client) => {
      for (let tries = 0; tries < 120; tries++) {
        if (!(await client.query("select exists (select from audit_unsealed) as left")).rows[0].left) return;
        await delay(1_000);
      }
    });
  const seed = async () => {
    seeded ??= fill();
    await seeded;
  };
  /** The job compares all of them with each other, as fast as it can. Gives how long that took. */
  const untilCompared = () =>
    query(migrationDatabaseUrl, async (client) => {
      const started = performance.now();
      const text = `select exists (select from duplicate_progress where after_id is null and (xid::xid8, id) >=
        (select changed_xid, id from patients where changed_xid is not null order by changed_xid desc, id desc limit 1)) as done`;
      while (!(await client.query(text)).rows[0].done) await delay(1_000);
      return (performance.now() - started) / 1_000;
    });
  let comparing: Promise<number> | undefined;
  const compare = async () => {
    await seed();
    comparing ??= untilCompared();
    return comparing;
  };
  const row: Row = {
    name: `seed ${patients} patients`,
    concurrency: 1,
    things: patients,
    seconds: 0,
    request: seed,
    baseline: baselines.copy,
    aims: { minRate: 0.1 },
  };
  const workList: Row = {
    name: `work list of duplicates of ${patients} patients`,
    concurrency: 1,
    things: patients,
    seconds: 0,
    prepare: seed,
    request: compare,
    async after() {
      const seconds = await compare();
      say(`the work list of ${patients} patients took ${seconds.toFixed(0)} s`);
      return seconds > maxWorkListSeconds ? [`the work list took more than ${maxWorkListSeconds} s`] : [];
    },
  };
  return {
    rows: [row, workList],
    async prepare() {
      await compare();
      await untilSealed();
    },
  };
}

/** Page 1 and a deep page in turns, so that the rest of the machine slows both. */
function createPages({ platform, http }: BenchContext) {
  const list = async (query: string) =>
    JSON.parse(await http(platform.services.patient.url, "GET", `/patients?sort=name${query}`)) as { nextCursor?: string };
  let cursor = "";
  return {
    first: () => list(""),
    deep: () => list(`&cursor=${cursor}`),
    /** Walks to the deep page by large pages: a cursor is a place in the list, whatever the size of the pages. */
    async walk(): Promise<void> {
      for (let rest = Math.min(deepPage * 50, patients - 100); rest > 0; rest -= 200)
        cursor = (await list(`&limit=${Math.min(rest, 200)}${cursor && `&cursor=${cursor}`}`)).nextCursor ?? "";
    },
    async compare(): Promise<string[]> {
      const times: [number[], number[]] = [[], []];
      for (let i = 0; i < 600; i++) {
        const started = performance.now();
        await list(i % 2 === 0 ? "" : `&cursor=${cursor}`);
        times[i % 2]?.push(performance.now() - started);
      }
      const [first, deep] = times.map((each) => percentile(each, 0.5)) as [number, number];
      const ratio = (deep / first).toFixed(2);
      say(`page ${deepPage} takes ${ratio} times as long as page 1: ${deep.toFixed(2)} and ${first.toFixed(2)} ms (medians)`);
      return deep > 1.1 * first ? [`page ${deepPage} is not within 10 % of page 1`] : [];
    },
  };
}

const searchTerms: Record<string, (person: ReturnType<typeof personAt>["record"]) => string> = {
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

/**
 * A search for people's names, numbers and addresses in turn. People search: what counts is how long one of them waits.
 */
function searchRow({ platform, baselines, http }: BenchContext, name: string, tokenOf: () => Promise<string | undefined>): Row {
  let as: string | undefined;
  const times = new Map<string, number[]>(Object.keys(searchTerms).map((kind) => [kind, []]));
  return {
    name,
    concurrency: 2,
    seconds: 15,
    async prepare() {
      as = await tokenOf();
    },
    async request(_, iteration) {
      const [kind, termOf] = Object.entries(searchTerms)[iteration % times.size] ?? [];
      // Neighbours by number registered on the same day. Steps of 9,973 take people from everywhere.
      const term = termOf?.(personAt((iteration * 9_973) % patients, patients).record) ?? "";
      const started = performance.now();
      await http(platform.services.patient.url, "GET", `/patients?q=${encodeURIComponent(term)}`, { as });
      times.get(kind ?? "")?.push(performance.now() - started);
    },
    after() {
      say(`p99 by kind, ms: ${[...times].map(([kind, each]) => `${kind} ${percentile(each, 0.99).toFixed(1)}`).join(", ")}`);
      return [];
    },
    baseline: baselines.query,
    aims: { maxP99: 6 },
  };
}

/** Somebody with a typing error in their name, or in their date of birth. */
function matchRow({ platform, http }: BenchContext, costOfSearch: () => number): Row {
  return {
    name: `match among ${patients} patients`,
    concurrency: 2,
    seconds: 15,
    async request(_, iteration) {
      const { name, firstName = name, lastName = name, dateOfBirth, address } = personAt((iteration * 9_973) % patients, patients).record;
      const wrong =
        iteration % 2
          ? { firstName: firstName.slice(1) || firstName, dateOfBirth }
          : { firstName, dateOfBirth: `${dateOfBirth.slice(0, 8)}01` };
      await http(platform.services.patient.url, "POST", "/patients:match", { body: { ...wrong, lastName, address } });
    },
    after({ cpuMs }) {
      if (Number.isNaN(costOfSearch())) return [];
      const searches = cpuMs / costOfSearch();
      say(`a match costs as much CPU as ${searches.toFixed(2)} searches`);
      return searches > maxSearches ? [`a match costs more than ${maxSearches} searches`] : [];
    },
  };
}

/** Creates a user, shares every `nth` patient with them, and returns their token. */
async function userWhoSees({ platform, http }: BenchContext, nth: number): Promise<string> {
  const credentials = { email: `bench-${randomUUID()}@example.com`, password: `correct horse battery ${randomUUID()}` };
  const account = { ...credentials, name: "Bench", roles: ["user"] };
  const { id } = JSON.parse(await http(platform.gatewayUrl, "POST", "/auth/users", { body: account, status: 201 })) as { id: string };
  await query(platform.databases.patient.migrationDatabaseUrl, async (client) => {
    const share =
      "insert into patient_access (patient_id, principal, granted_by) select id, $1, 'bench' from patients where abs(hashtext(id::text)) % $2 = 0";
    await client.query(share, [`user:${id}`, nth]);
    await client.query("vacuum (analyze) patient_access");
  });
  const login = await http(platform.gatewayUrl, "POST", "/auth/login", { body: credentials, anonymous: true });
  return (JSON.parse(login) as { token: string }).token;
}

export const rows: Rows = async (context) => {
  const seed = createSeed(context);
  const pages = createPages(context);

  /**
   * A row over the seeded patients. Billing is frozen meanwhile: its reconciliation finds a million patients without an
   * account and would open them.
   */
  const seededRow = (row: Row): Row => ({
    ...row,
    async prepare() {
      await seed.prepare();
      await row.prepare?.();
      await context.platform.services.billing.kill("SIGSTOP");
    },
    async after(figures) {
      const missed = (await row.after?.(figures)) ?? [];
      await context.platform.services.billing.kill("SIGCONT");
      return missed;
    },
  });
  let costOfSearch = Number.NaN;
  const search = (name: string, tokenOf: () => Promise<string | undefined>, note?: (figures: { cpuMs: number }) => void) => {
    const row = searchRow(context, name, tokenOf);
    const after: Row["after"] = (figures) => {
      note?.(figures);
      return row.after?.(figures) ?? [];
    };
    return seededRow({ ...row, after });
  };
  return [
    ...seed.rows,
    seededRow({ name: `list 50 of ${patients} patients, page 1`, request: pages.first }),
    seededRow({
      name: `list 50 of ${patients} patients, page ${deepPage}`,
      prepare: pages.walk,
      request: pages.deep,
      after: pages.compare,
    }),
    search(
      `search ${patients} patients`,
      async () => undefined,
      (figures) => {
        costOfSearch = figures.cpuMs;
      },
    ),
    seededRow(matchRow(context, () => costOfSearch)),
    search(`search ${patients} patients as a user who sees 1 of 1,000`, () => userWhoSees(context, 1_000)),
    search(`search ${patients} patients as a user who sees 1 of 5`, () => userWhoSees(context, 5)),
  ];
};

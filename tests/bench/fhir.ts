/** What FHIR costs beside our own API: the same work by both, in turns, with people as a clinic has them. */
import { setTimeout as delay } from "node:timers/promises";
import { query } from "@pm/stack/native/postgres";
import { type Dispatcher, request } from "undici";
import { personAt } from "../seed/people.ts";
import type { Rows } from "./context.ts";
import type { Work } from "./measure.ts";
import { residentMiB } from "./processes.ts";

/** So many that a file takes longer than asking for it. */
const people = 5_000;
/** The people with smaller numbers are those of other parts. */
const firstPerson = 8_000_000;
const maxMemoryMiB = 150;
const sampleMs = 100;
const maxSettlingMs = 300_000;
/** Both do nearly the same work, so what else the machine does must not meet one of them only. */
const inShortTurns = { seconds: 16, turns: 8, warmUpSeconds: 8 };

export const rows: Rows = async ({ platform, http, token }) => {
  const gateway = platform.gatewayUrl;
  const ids: string[] = [];

  /** Imports the people and waits for what follows an import, or the rows would measure it. */
  async function fill(): Promise<void> {
    if (ids.length > 0) return;
    await http(gateway, "POST", "/patients:import", { body: Array.from({ length: people }, (_, index) => lineOf(index)).join("") });
    await query(platform.databases.patient.migrationDatabaseUrl, async (client) => {
      for (const end = Date.now() + maxSettlingMs; !(await client.query(isSettled)).rows[0].settled; await delay(500))
        if (Date.now() > end) throw new Error("the accounts, the comparisons or the seals of an import did not come");
      await client.query("vacuum (analyze)");
    });
    const page = JSON.parse(await http(gateway, "GET", "/patients?limit=50")) as { items: { id: string }[] };
    ids.push(...page.items.map(({ id }) => id));
  }

  const work = (name: string, pathOf: (iteration: number) => string): Work => ({
    name,
    prepare: fill,
    request: (_, iteration) => http(gateway, "GET", pathOf(iteration)),
  });
  const one = (iteration: number) => ids[iteration % ids.length];

  async function send(method: Dispatcher.HttpMethod, url: string, status: number, fields = {}) {
    const answer = await request(url, { method, headers: { authorization: `Bearer ${await token()}`, ...fields } });
    if (answer.statusCode === status) return answer;
    throw new Error(`${method} ${url} answered ${answer.statusCode}: ${(await answer.body.text()).slice(0, 300)}`);
  }

  async function readAll(url: string): Promise<void> {
    const { body } = await send("GET", url, 200);
    let lines = 0;
    for await (const chunk of body as AsyncIterable<Buffer>)
      for (let at = chunk.indexOf(0x0a); at !== -1; at = chunk.indexOf(0x0a, at + 1)) lines += 1;
    if (lines < people) throw new Error(`${lines} of ${people} patients were exported`);
  }

  /** Asks for an export, reads its file and removes it. */
  async function exportInBulk(): Promise<void> {
    const { headers, body } = await send("GET", `${gateway}/fhir/R4/Patient/$export`, 202, { prefer: "respond-async" });
    await body.dump();
    const status = new URL(String(headers["content-location"]));
    const manifest = (await (await send("GET", `${gateway}${status.pathname}${status.search}`, 200)).body.json()) as {
      output: [{ url: string }];
    };
    await readAll(`${gateway}${new URL(manifest.output[0].url).pathname}`);
    await (await send("DELETE", `${gateway}${status.pathname}`, 202)).body.dump();
  }

  const { fhir } = platform.services;
  let highestMiB = 0;
  let sampling: NodeJS.Timeout | undefined;
  const sample = () => {
    highestMiB = Math.max(highestMiB, residentMiB({ fhir: () => [fhir.pid] }).fhir ?? Number.NaN);
  };

  return [
    {
      ...work("FHIR read, gateway", (iteration) => `/fhir/R4/Patient/${one(iteration)}`),
      baseline: work("get patient", (iteration) => `/patients/${one(iteration)}`),
      ...inShortTurns,
      aims: { maxCpu: 2 },
    },
    {
      ...work("FHIR search for 50, gateway", () => "/fhir/R4/Patient?_count=50"),
      baseline: work("list 50 patients", () => "/patients?limit=50"),
      ...inShortTurns,
      aims: { maxCpu: 1.4 },
    },
    {
      name: "FHIR $export, gateway",
      concurrency: 1,
      prepare: fill,
      request: exportInBulk,
      baseline: { name: "export as NDJSON", request: () => readAll(`${gateway}/patients:export?format=ndjson`) },
      aims: { minRate: 0.33 },
    },
    {
      // As many as a caller may have at a time.
      name: "FHIR $export, two at a time, gateway",
      concurrency: 2,
      async prepare() {
        await fill();
        sampling = setInterval(sample, sampleMs);
      },
      request: exportInBulk,
      after() {
        clearInterval(sampling);
        process.stdout.write(`the FHIR service held at most ${highestMiB.toFixed(0)} MiB (Pss)\n`);
        return highestMiB <= maxMemoryMiB ? [] : [`the FHIR service held ${highestMiB.toFixed(0)} MiB > ${maxMemoryMiB}`];
      },
    },
  ];
};

/** Everybody has an account and was compared with the others, and everything in the audit trail is sealed. */
const isSettled = `
  select not exists (select from patient_billing where account_id is null)
    and not exists (select from audit_unsealed)
    and exists (
      select from duplicate_progress where after_id is null and (xid::xid8, id) >=
        (select changed_xid, id from patients where changed_xid is not null order by changed_xid desc, id desc limit 1)
    ) as settled`;

const run = Date.now();

/** A line of an import. An e-mail belongs to one patient, so those of another run differ. */
const lineOf = (index: number): string =>
  `${JSON.stringify({ ...personAt(firstPerson + index, 10_000_000).record, email: `fhir-${run}-${index}@example.com` })}\n`;

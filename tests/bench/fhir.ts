/** What FHIR costs beside our own API: the same work by both, in turns. */
import { type Dispatcher, request } from "undici";
import type { Rows } from "./context.ts";
import type { Work } from "./measure.ts";
import { residentMiB } from "./processes.ts";

/** So many that a file takes longer than asking for it. */
const exported = 5_000;
const maxMemoryMiB = 150;

export const rows: Rows = async ({ platform, processes, http, token }) => {
  const gateway = platform.gatewayUrl;
  const ids: string[] = [];
  const fill = async () => {
    for (let count = ids.length; count < 50; count++)
      ids.push(JSON.parse(await http(gateway, "POST", "/patients", { body: person(count), status: 201 })).id);
  };
  const fillExport = async () => {
    const lines = Array.from({ length: exported }, (_, count) => `${JSON.stringify(person(50 + count))}\n`);
    await http(gateway, "POST", "/patients:import", { body: lines.join("") });
  };
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
    if (lines < exported) throw new Error(`${lines} of ${exported} patients were exported`);
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

  return [
    {
      ...work("FHIR read, gateway", (iteration) => `/fhir/R4/Patient/${one(iteration)}`),
      baseline: work("get patient", (iteration) => `/patients/${one(iteration)}`),
      aims: { maxCpu: 2 },
    },
    {
      ...work("FHIR search for 50, gateway", () => "/fhir/R4/Patient?_count=50"),
      baseline: work("list 50 patients", () => "/patients?limit=50"),
      // We want 1.4; docs/performance-log.md says what the second process costs.
      aims: { maxCpu: 2 },
    },
    {
      name: "FHIR $export, gateway",
      concurrency: 1,
      prepare: fillExport,
      request: exportInBulk,
      baseline: { name: "export as NDJSON", request: () => readAll(`${gateway}/patients:export?format=ndjson`) },
      aims: { minRate: 0.33 },
      after() {
        const mib = residentMiB(processes).fhir ?? Number.NaN;
        return mib <= maxMemoryMiB ? [] : [`the FHIR service holds ${mib.toFixed(0)} MiB > ${maxMemoryMiB}`];
      },
    },
  ];
};

const run = Date.now();

const person = (count: number) => ({
  ...{ firstName: "Bench", lastName: `FHIR ${count}`, email: `bench-fhir-${run}-${count}@example.com` },
  ...{ dateOfBirth: "1985-12-10", phoneNumber: "+12175550123", sex: "female" },
  address: { street: "1 Main St", city: "Springfield", state: "IL", zipCode: "62701" },
});

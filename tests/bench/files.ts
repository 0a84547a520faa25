/**
 * A million patients in one file, in and out through the gateway: how fast, and whether patient-service needs more
 * memory the longer it takes. `BENCH_PATIENTS` makes them fewer.
 */
import { randomUUID } from "node:crypto";
import { Readable } from "node:stream";
import { request } from "undici";
import { personAt } from "../seed/people.ts";
import type { Rows } from "./context.ts";
import type { Row } from "./measure.ts";
import { residentMiB } from "./processes.ts";

const patients = Number(process.env.BENCH_PATIENTS || 1_000_000);
const sampleMs = 5_000;
/** How many more MiB it may hold in the second half than in the first: one garbage collection may come late. */
const noise = 40;

const say = (line: string) => process.stdout.write(`${line}\n`);

export const rows: Rows = async ({ platform, processes, token }) => {
  const run = randomUUID().slice(0, 8);
  const resident = () => residentMiB(processes).patient ?? Number.NaN;

  /** A row of one request. `transfer` reports lines as they pass and returns their number. */
  function fileRow(name: string, transfer: (passed: (lines: number) => void) => Promise<number>): Row {
    const samples: { lines: number; mib: number }[] = [];
    let lines = 0;
    return {
      name: `${name}, ${patients} in one file`,
      concurrency: 1,
      things: patients,
      seconds: 0,
      async request() {
        const sample = () => samples.push({ lines, mib: resident() });
        sample();
        const timer = setInterval(sample, sampleMs);
        const whole = await transfer((more) => {
          lines += more;
        }).finally(() => clearInterval(timer));
        sample();
        if (whole < patients) throw new Error(`${whole} of ${patients} lines went through`);
      },
      after() {
        const shown = [0, 0.25, 0.5, 0.75, 1].map((share) => samples.find((sample) => sample.lines >= share * patients) ?? samples.at(-1));
        say(`patient-service, MiB (Pss): ${shown.map((sample) => `${sample?.mib.toFixed(0)} at ${sample?.lines}`).join(", ")}`);
        // Without the first sample, which is from before the request.
        const { early = [], late = [] } = Object.groupBy(samples.slice(1), ({ lines }) => (lines < patients / 2 ? "early" : "late"));
        if (early.length === 0) return [];
        const [first, second] = [early, late].map((each) => Math.max(...each.map(({ mib }) => mib))) as [number, number];
        say(`at most ${first.toFixed(0)} in the first half and ${second.toFixed(0)} in the second, of ${samples.length} samples`);
        return second > first + noise ? [`memory grew from ${first.toFixed(0)} to ${second.toFixed(0)} MiB`] : [];
      },
    };
  }

  const importRow = fileRow("import patients", async (passed) => {
    function* file() {
      const linesAtOnce = 100;
      for (let number = 0; number < patients; ) {
        let text = "";
        const end = Math.min(number + linesAtOnce, patients);
        passed(end - number);
        for (; number < end; number++)
          text += `${JSON.stringify({ ...personAt(number, patients).record, email: `${run}/${number}@example.com` })}\n`;
        yield text;
      }
    }
    const { statusCode, body } = await request(`${platform.gatewayUrl}/patients:import`, {
      method: "POST",
      headers: { authorization: `Bearer ${await token()}`, "content-type": "application/x-ndjson" },
      body: Readable.from(file()),
      headersTimeout: 0,
    });
    const text = await body.text();
    if (statusCode !== 200) throw new Error(`the import answered ${statusCode}: ${text.slice(0, 300)}`);
    return (JSON.parse(text) as { created: number }).created;
  });

  const exportRow = (format: "csv" | "ndjson") =>
    fileRow(`export patients as ${format}`, async (passed) => {
      const { statusCode, body } = await request(`${platform.gatewayUrl}/patients:export?format=${format}`, {
        headers: { authorization: `Bearer ${await token()}` },
      });
      if (statusCode !== 200) throw new Error(`the export answered ${statusCode}: ${(await body.text()).slice(0, 300)}`);
      let all = 0;
      for await (const chunk of body as AsyncIterable<Buffer>) {
        let lines = 0;
        for (let at = chunk.indexOf(0x0a); at !== -1; at = chunk.indexOf(0x0a, at + 1)) lines += 1;
        passed(lines);
        all += lines;
      }
      return all;
    });

  return [importRow, exportRow("csv"), exportRow("ndjson")];
};

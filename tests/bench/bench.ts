/**
 * `npm run bench [-- <word>…]`: starts its own platform on free ports and runs every row whose name contains one of the
 * words. Prints a table, writes `.data/bench.json`, and exits with 1 if an aim does not hold. `BENCH_DATA_DIR` keeps
 * the seeded data for the next run. The load only goes to 127.0.0.1.
 */
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { cpus, tmpdir, totalmem } from "node:os";
import { join } from "node:path";
import { startPlatform } from "@pm/stack/platform";
import { rows as analyticsRows } from "./analytics.ts";
import { rows as authRows } from "./auth.ts";
import { rows as billingRows } from "./billing.ts";
import { createContext, type Rows } from "./context.ts";
import { rows as fhirRows } from "./fhir.ts";
import { rows as fileRows } from "./files.ts";
import { rows as importRows } from "./imports.ts";
import { describe, measure, type Result, toTable } from "./measure.ts";
import { rows as pathRows } from "./path.ts";
import { rows as patientRows } from "./patients.ts";
import { residentMiB } from "./processes.ts";
import { rows as steadyRows } from "./steady.ts";

/** Order matters: rows that want small tables come before rows that fill them. */
const parts: Record<string, Rows> = {
  path: pathRows,
  auth: authRows,
  billing: billingRows,
  analytics: analyticsRows,
  fhir: fhirRows,
  steady: steadyRows,
  imports: importRows,
  patients: patientRows,
  files: fileRows,
};
const ours = ["envoy", "patient", "billing", "analytics", "fhir", "auth"];
const maxMemoryMiB = 600;

const words = process.argv.slice(2);
const say = (line: string) => process.stdout.write(`${line}\n`);
const together = (memory: Record<string, number>) => ours.reduce((sum, name) => sum + (memory[name] ?? 0), 0);
const kept = process.env.BENCH_DATA_DIR;
const dataDir = kept ?? mkdtempSync(join(tmpdir(), "pm-bench-"));
const platform = await startPlatform({ dataDir, log: say, gateway: { LOGIN_RATE_PER_SECOND: "1000" } });
const results: Result[] = [];
try {
  const context = createContext(platform);
  const memoryMiB: Record<string, Record<string, number>> = {};
  for (const [part, rows] of Object.entries(parts)) {
    const chosen = (await rows(context)).filter(({ name }) => words.length === 0 || words.some((word) => name.includes(word)));
    for (const row of chosen) {
      const result = await measure(row, context.processes);
      results.push(result);
      say(summaryOf(result));
    }
    if (chosen.length > 0) memoryMiB[part] = residentMiB(context.processes);
  }
  const machine = {
    cpus: cpus().length,
    model: cpus()[0]?.model,
    memoryGiB: Math.round(totalmem() / 2 ** 30),
    node: process.version,
    date: new Date().toISOString(),
  };
  say(`\n${toTable(results)}\n`);
  for (const [part, memory] of Object.entries(memoryMiB)) {
    const each = Object.entries(memory).map(([name, mib]) => `${name} ${mib.toFixed(0)}`);
    say(`Resident after the rows of ${part} (MiB): ${each.join(", ")}; our services and Envoy ${together(memory).toFixed(0)}`);
  }
  say(`${machine.cpus} cores (${machine.model}), ${machine.memoryGiB} GiB, Node ${machine.node}, ${machine.date}`);
  mkdirSync(".data", { recursive: true });
  writeFileSync(".data/bench.json", JSON.stringify({ machine, results, memoryMiB }, null, 2));
  const missed = results.flatMap((result) => result.missed.map((what) => `${result.name}: ${what}`));
  const afterPath = together(memoryMiB.path ?? {});
  if (words.length === 0 && afterPath > maxMemoryMiB)
    missed.push(`our services and Envoy hold ${afterPath.toFixed(0)} MiB > ${maxMemoryMiB}`);
  for (const line of missed) say(`missed: ${line}`);
  process.exitCode = missed.length === 0 ? 0 : 1;
} finally {
  await platform.stop();
  if (kept === undefined) rmSync(dataDir, { recursive: true, force: true });
}
process.exit();

function summaryOf({ name, perSecond, p99Ms, cpuMs, comparisons, missed }: Result): string {
  const verdict = missed.length > 0 ? "MISSED" : "ok    ";
  const figures = `${perSecond.toFixed(0)}/s, p99 ${p99Ms.toFixed(1)} ms, ${cpuMs.toFixed(2)} CPU ms`;
  return `${verdict} ${name}: ${[figures, ...comparisons.map(describe)].join(", ")}`;
}

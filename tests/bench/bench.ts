/**
 * `npm run bench [-- <word>…]`: starts a platform of its own on free ports, runs every row whose name has one of the words, prints a table and
 * writes `.data/bench.json`. `BENCH_DATA_DIR` keeps what was seeded for the next run. Load goes to 127.0.0.1 only and ends by itself; exits 1 where a limit of a row does not hold.
 */
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { cpus, tmpdir, totalmem } from "node:os";
import { join } from "node:path";
import { startPlatform } from "@pm/stack/platform";
import { rows as analyticsRows } from "./analytics.ts";
import { rows as authRows } from "./auth.ts";
import { rows as billingRows } from "./billing.ts";
import { createContext, type Rows } from "./context.ts";
import { rows as fileRows } from "./files.ts";
import { measure, type Result, residentMiB, toTable } from "./measure.ts";
import { rows as pathRows } from "./path.ts";
import { rows as patientRows } from "./patients.ts";

/** Order matters: what fills tables comes after what wants small ones. */
const parts: Record<string, Rows> = {
  path: pathRows,
  auth: authRows,
  billing: billingRows,
  analytics: analyticsRows,
  patients: patientRows,
  files: fileRows,
};
const ours = ["envoy", "patient", "billing", "analytics", "auth"];

const words = process.argv.slice(2);
const say = (line: string) => process.stdout.write(`${line}\n`);
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
      say(
        `${result.missed.length > 0 ? "MISSED" : "ok    "} ${row.name}: ${result.perSecond.toFixed(0)}/s, p99 ${result.p99Ms.toFixed(1)} ms, ${result.cpuMs.toFixed(2)} CPU ms ${result.missed.join(", ")}`,
      );
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
  const together = (memory: Record<string, number>) => ours.reduce((sum, name) => sum + (memory[name] ?? 0), 0);
  for (const [part, memory] of Object.entries(memoryMiB)) {
    const each = Object.entries(memory).map(([name, mib]) => `${name} ${mib.toFixed(0)}`);
    say(`Resident after the rows of ${part} (MiB): ${each.join(", ")}; our services and Envoy ${together(memory).toFixed(0)}`);
  }
  say(`${machine.cpus} cores (${machine.model}), ${machine.memoryGiB} GiB, Node ${machine.node}, ${machine.date}`);
  mkdirSync(".data", { recursive: true });
  writeFileSync(".data/bench.json", JSON.stringify({ machine, results, memoryMiB }, null, 2));
  const missed = results.flatMap((result) => result.missed.map((limit) => `${result.name}: ${limit}`));
  const afterPath = together(memoryMiB.path ?? {});
  if (words.length === 0 && afterPath > 600) missed.push(`our services and Envoy hold ${afterPath.toFixed(0)} MiB > 600`);
  for (const line of missed) say(`missed: ${line}`);
  process.exitCode = missed.length === 0 ? 0 : 1;
} finally {
  await platform.stop();
  if (kept === undefined) rmSync(dataDir, { recursive: true, force: true });
}
process.exit();

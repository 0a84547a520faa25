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
const parts: Rows[] = [pathRows, authRows, billingRows, analyticsRows, patientRows, fileRows];

const words = process.argv.slice(2);
const say = (line: string) => process.stdout.write(`${line}\n`);
const kept = process.env.BENCH_DATA_DIR;
const dataDir = kept ?? mkdtempSync(join(tmpdir(), "pm-bench-"));
const platform = await startPlatform({ dataDir, log: say, gateway: { LOGIN_RATE_PER_SECOND: "1000" } });
const results: Result[] = [];
try {
  const context = createContext(platform);
  for (const part of parts) {
    for (const row of await part(context)) {
      if (words.length > 0 && !words.some((word) => row.name.includes(word))) continue;
      const result = await measure(row, context.processes);
      results.push(result);
      say(
        `${result.missed.length > 0 ? "MISSED" : "ok    "} ${row.name}: ${result.perSecond.toFixed(0)}/s, p99 ${result.p99Ms.toFixed(1)} ms, ${result.cpuMs.toFixed(2)} CPU ms ${result.missed.join(", ")}`,
      );
    }
  }
  const memory = residentMiB(context.processes);
  const ours = ["envoy", "patient", "billing", "analytics", "auth"].reduce((sum, name) => sum + (memory[name] ?? 0), 0);
  const machine = {
    cpus: cpus().length,
    model: cpus()[0]?.model,
    memoryGiB: Math.round(totalmem() / 2 ** 30),
    node: process.version,
    date: new Date().toISOString(),
  };
  say(`\n${toTable(results)}\n`);
  say(
    `Resident after load (MiB): ${Object.entries(memory)
      .map(([name, mib]) => `${name} ${mib.toFixed(0)}`)
      .join(", ")}; our services and Envoy ${ours.toFixed(0)}`,
  );
  say(`${machine.cpus} cores (${machine.model}), ${machine.memoryGiB} GiB, Node ${machine.node}, ${machine.date}`);
  mkdirSync(".data", { recursive: true });
  writeFileSync(".data/bench.json", JSON.stringify({ machine, results, memoryMiB: memory }, null, 2));
  const missed = results.flatMap((result) => result.missed.map((limit) => `${result.name}: ${limit}`));
  if (words.length === 0 && ours > 600) missed.push(`our services and Envoy hold ${ours.toFixed(0)} MiB > 600`);
  for (const line of missed) say(`missed: ${line}`);
  process.exitCode = missed.length === 0 ? 0 : 1;
} finally {
  await platform.stop();
  if (kept === undefined) rmSync(dataDir, { recursive: true, force: true });
}
process.exit();

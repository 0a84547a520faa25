/**
 * `npm run check`: everything that CI runs, in order. It goes on after a failure, so that one run shows everything that is
 * wrong, and ends with what failed and `N passed, N failed`: tests one by one, every other step as one.
 */
import { spawn } from "node:child_process";

type Step = { name: string; command: string };

const steps: Step[] = [
  { name: "generated code is what the proto tree gives", command: "npm run -s generate && git diff --exit-code --stat -- proto/gen" },
  { name: "format and lint", command: "biome ci --colors=off --error-on-warnings" },
  { name: "types", command: "tsc --noEmit" },
  { name: "unit tests", command: "vitest run --project unit" },
  { name: "integration tests", command: "vitest run --project integration" },
  { name: "end-to-end tests", command: "vitest run --project e2e" },
  { name: "buf lint", command: "buf lint" },
  { name: "buf breaking", command: "proto/breaking.sh" },
];

/** Runs a step with its output passed on, and says how it ended and which failures and last counts it printed (reporter.ts). */
function run(step: Step): Promise<{ ok: boolean; passed: number; failed: number; failures: string[] }> {
  return new Promise((resolve) => {
    const child = spawn("bash", ["-c", step.command], { stdio: ["ignore", "pipe", "inherit"] });
    let tail = "";
    child.stdout.on("data", (chunk: Buffer) => {
      process.stdout.write(chunk);
      tail = (tail + chunk.toString("utf8")).slice(-20_000);
    });
    child.on("close", (code) => {
      const counts = /^(\d+) passed, (\d+) failed$/m.exec(tail);
      const ok = code === 0;
      const failures = tail.match(/^FAILED .*$/gm) ?? [];
      if (!counts) resolve({ ok, passed: ok ? 1 : 0, failed: ok ? 0 : 1, failures });
      // A run that failed without a failed test (a hook, a crash) is still one failure.
      else resolve({ ok, passed: Number(counts[1]), failed: Math.max(Number(counts[2]), ok ? 0 : 1), failures });
    });
  });
}

const summary: string[] = [];
let passed = 0;
let failed = 0;
for (const step of steps) {
  process.stdout.write(`\n── ${step.name}\n`);
  const started = Date.now();
  const result = await run(step);
  passed += result.passed;
  failed += result.failed;
  summary.push(`${result.ok ? "ok    " : "FAILED"} ${step.name} (${Math.round((Date.now() - started) / 1_000)} s)`);
  for (const failure of result.failures) summary.push(`       ${failure.slice("FAILED ".length)}`);
}
process.stdout.write(`\n${summary.join("\n")}\n\n${passed} passed, ${failed} failed\n`);
process.exitCode = failed === 0 ? 0 : 1;

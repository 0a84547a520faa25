/** How `npm run check` and `npm run check:judges` run what they run, one step after another, and say what came out. */
import { spawn } from "node:child_process";
import { guard } from "@pm/stack/programs/child";

export type Step = {
  name: string;
  command: string;
  /** Why the step cannot run here; it is then skipped. */
  missing?: () => Promise<string | undefined>;
};

type Result = { outcome: "ok" | "FAILED" | "skipped"; passed: number; failed: number; failures: string[]; skipped: string[] };

const GRACE_MS = 20_000;

/**
 * Goes on after a failure, so that one run shows everything that is wrong. It ends with each step, what was skipped and
 * `N passed, N failed`: tests one by one, every other step as one. A step that cannot run here, or does not end within
 * the `minutes` for all steps together, is skipped: neither passed nor failed.
 */
export async function runSteps(steps: Step[], options: { minutes?: number; notRun?: string[] } = {}): Promise<void> {
  const { minutes, notRun = [] } = options;
  const deadline = minutes === undefined ? undefined : Date.now() + minutes * 60_000;
  const summary: string[] = [];
  const skipped: string[] = [];
  let passed = 0;
  let failed = 0;
  for (const step of steps) {
    process.stdout.write(`\n── ${step.name}\n`);
    const started = Date.now();
    const result = await runStep(step, deadline);
    passed += result.passed;
    failed += result.failed;
    skipped.push(...result.skipped);
    summary.push(`${result.outcome.padEnd(7)} ${step.name} (${Math.round((Date.now() - started) / 1_000)} s)`);
    for (const failure of result.failures) summary.push(`        ${failure}`);
  }
  skipped.push(...notRun);
  process.stdout.write(`\n${summary.join("\n")}\n\n${skipped.map((line) => `skipped: ${line}\n`).join("")}`);
  process.stdout.write(`${passed} passed, ${failed} failed\n`);
  process.exitCode = failed === 0 ? 0 : 1;
}

async function runStep(step: Step, deadline: number | undefined): Promise<Result> {
  const skip = (why: string): Result => {
    process.stdout.write(`is skipped: ${why}\n`);
    return { outcome: "skipped", passed: 0, failed: 0, failures: [], skipped: [`${step.name}: ${why.replace(/\s+/g, " ")}`] };
  };
  const missing = await step.missing?.();
  if (missing !== undefined) return skip(missing);
  const late = "it did not end within the time that all of these have together";
  if (deadline !== undefined && Date.now() >= deadline) return skip(late);
  const { code, tail, isLate } = await runCommand(step.command, deadline);
  if (isLate) return skip(late);
  // Each once: a command that runs steps itself repeats at its end what they said.
  const lines = (label: string) => [...new Set([...tail.matchAll(new RegExp(`^${label} (.*)$`, "gm"))].map(([, line = ""]) => line))];
  const counts = tail
    .match(/^\d+ passed, \d+ failed$/gm)
    ?.at(-1)
    ?.match(/\d+/g);
  // A run that failed without a failed test (a hook, a crash) is still one failure.
  const failed = Math.max(Number(counts?.[1] ?? 0), code === 0 ? 0 : 1);
  const passed = counts ? Number(counts[0]) : 1 - failed;
  const outcome = failed > 0 ? "FAILED" : passed > 0 ? "ok" : "skipped";
  return { outcome, passed, failed, failures: lines("FAILED"), skipped: lines("skipped:") };
}

/** Runs a command with its output passed on; it and all that it started are ended at the deadline. */
function runCommand(command: string, deadline: number | undefined): Promise<{ code: number | null; tail: string; isLate: boolean }> {
  return new Promise((resolve) => {
    // A group of its own can be ended as a whole; without a deadline, Ctrl-C reaches it as it reaches this process.
    const child = spawn("bash", ["-c", command], { stdio: ["ignore", "pipe", "inherit"], detached: deadline !== undefined });
    const group = -(child.pid ?? 0);
    let tail = "";
    let isLate = false;
    const timers: NodeJS.Timeout[] = [];
    if (deadline !== undefined) {
      guard.watch(group, "SIGTERM");
      const left = Math.max(0, deadline - Date.now());
      const end = (signal: NodeJS.Signals) => {
        if (child.exitCode !== null || child.signalCode !== null) return;
        isLate = true;
        process.kill(group, signal);
      };
      timers.push(
        setTimeout(() => end("SIGTERM"), left),
        setTimeout(() => end("SIGKILL"), left + GRACE_MS),
      );
    }
    child.stdout.on("data", (chunk: Buffer) => {
      process.stdout.write(chunk);
      tail = (tail + chunk.toString("utf8")).slice(-40_000);
    });
    child.on("close", (code) => {
      for (const timer of timers) clearTimeout(timer);
      if (deadline !== undefined) guard.forget(group);
      resolve({ code, tail, isLate });
    });
  });
}

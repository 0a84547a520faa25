/**
 * `npm run fuzz`: runs schemathesis against patient-service with the service's own OpenAPI document: all checks,
 * stateful, as an admin and without a token. Ends within five minutes, and exits with 1 if it finds something. It calls
 * the service directly, because the gateway hides internal operations and answers some broken requests itself.
 *
 *   FUZZ_URL, FUZZ_TOKEN   a running patient-service and an access token; without them a platform is started
 */
import { spawn } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { startPlatform } from "@pm/stack/platform";
import { installSchemathesis } from "./schemathesis.ts";

const signedInSeconds = 200;
const anonymousSeconds = 40;

const say = (line: string) => void process.stdout.write(`${line}\n`);

type Target = { url: string; token: () => Promise<string>; stop: () => Promise<void> };

async function findTarget(): Promise<Target> {
  const { FUZZ_URL, FUZZ_TOKEN } = process.env;
  if (FUZZ_URL && FUZZ_TOKEN) return { url: FUZZ_URL, token: async () => FUZZ_TOKEN, stop: async () => undefined };
  const dataDir = mkdtempSync(join(tmpdir(), "pm-fuzz-"));
  const platform = await startPlatform({ dataDir, durable: false, log: say, env: { all: { LOG_LEVEL: "warn" } } });
  const token = async () => {
    const body = JSON.stringify(platform.admin);
    const answer = await fetch(`${platform.gatewayUrl}/auth/login`, {
      method: "POST",
      headers: { "content-type": "application/json" },
      body,
    });
    return ((await answer.json()) as { token: string }).token;
  };
  const stop = async () => {
    await platform.stop();
    rmSync(dataDir, { recursive: true, force: true });
  };
  return { url: platform.services.patient.url, token, stop };
}

/** SIGTERM ends the run early, but still stops the platform and removes its data. */
const stopping = new AbortController();
process.once("SIGTERM", () => stopping.abort());

/** Runs schemathesis and returns its exit code. */
function fuzz(dir: string, target: Target, seconds: number, options: string[]): Promise<number> {
  if (stopping.signal.aborted) return Promise.resolve(1);
  const config = join(import.meta.dirname, "schemathesis.toml");
  // The configuration enables all checks, except some of single operations. Naming checks here would override that.
  const args = ["--config-file", config, "run", `${target.url}/openapi-internal.json`, "--url", target.url];
  const limits = ["--max-time", String(seconds), "--continue-on-failure", "--request-timeout", "10", "--warnings", "off"];
  return new Promise((resolve, reject) => {
    const child = spawn(join(dir, "bin", "python"), ["-m", "schemathesis.cli", ...args, ...limits, ...options], {
      stdio: "inherit",
      cwd: tmpdir(),
    });
    // schemathesis keeps its time budget, but minimising what it found may take longer. Limit that too.
    const end = () => child.kill("SIGTERM");
    const limit = setTimeout(end, (seconds + 30) * 1_000);
    stopping.signal.addEventListener("abort", end);
    child.on("error", reject);
    child.on("close", (code) => {
      clearTimeout(limit);
      resolve(code ?? 1);
    });
  });
}

async function main(): Promise<void> {
  const dir = await installSchemathesis(say);
  const target = await findTarget();
  try {
    const codes = [
      await fuzz(dir, target, signedInSeconds, ["--header", `Authorization: Bearer ${await target.token()}`]),
      await fuzz(dir, target, anonymousSeconds, ["--phases", "examples,coverage,fuzzing"]),
    ];
    process.exitCode = codes.every((code) => code === 0) ? 0 : 1;
  } finally {
    await target.stop();
  }
}

await main();

/**
 * `npm run fuzz`: schemathesis against the running patient service by the service's own OpenAPI document: all checks,
 * stateful, as an admin and as nobody. Ends within five minutes, with 1 where it found something. It asks the service
 * itself, because the gateway keeps some operations inside and answers some broken requests before the service sees them.
 *
 *   FUZZ_URL, FUZZ_TOKEN   a patient service that runs already and an access token; without them a platform is started
 */
import { execFileSync, spawn } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { startPlatform } from "@pm/stack/platform";
import { cached } from "@pm/stack/programs/cache";
import { run } from "@pm/stack/programs/child";

const version = "4.32.5";
const signedInSeconds = 200;
const anonymousSeconds = 40;

/** schemathesis in a virtual environment of its own, made once per version. */
function install(): Promise<string> {
  return cached(`schemathesis-${version}`, say, async (dir) => {
    await run("python3", ["-m", "venv", dir]);
    await run(join(dir, "bin", "python"), ["-m", "pip", "install", "--quiet", "--disable-pip-version-check", `schemathesis==${version}`]);
  });
}

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

/** Runs schemathesis and gives its exit code. */
function fuzz(dir: string, target: Target, seconds: number, options: string[]): Promise<number> {
  const config = join(import.meta.dirname, "schemathesis.toml");
  const args = ["--config-file", config, "run", `${target.url}/openapi-internal.json`, "--url", target.url, "--checks", "all"];
  const limits = ["--max-time", String(seconds), "--continue-on-failure", "--request-timeout", "10", "--warnings", "off"];
  return new Promise((resolve, reject) => {
    const child = spawn(join(dir, "bin", "python"), ["-m", "schemathesis.cli", ...args, ...limits, ...options], {
      stdio: "inherit",
      cwd: tmpdir(),
    });
    // It ends itself by its time budget; shrinking what it found may take longer, and must not take forever.
    const limit = setTimeout(() => child.kill("SIGTERM"), (seconds + 30) * 1_000);
    child.on("error", reject);
    child.on("close", (code) => {
      clearTimeout(limit);
      resolve(code ?? 1);
    });
  });
}

async function main(): Promise<void> {
  execFileSync("python3", ["--version"]);
  const dir = await install();
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

/**
 * `npm run fuzz`: sends the running platform what its documents allow and what they do not. schemathesis calls every
 * REST service by its own OpenAPI document, with all checks, as an admin, and the gateway by the published ones;
 * connect.ts calls billing by its proto, and files.ts imports damaged files. Exits with 1 if something is found.
 *
 *   FUZZ_MINUTES   for everything together, 8 by default
 *   FUZZ_SEED      always the same run, so that a finding is that of a change; `random` explores, and prints its seed
 */
import { spawn } from "node:child_process";
import { randomInt } from "node:crypto";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type Platform, startPlatform } from "@pm/stack/platform";
import { fuzzConnect } from "./connect.ts";
import { fuzzFiles } from "./files.ts";
import { installSchemathesis } from "./schemathesis.ts";

const minutes = Number(process.env.FUZZ_MINUTES ?? 8);
const { FUZZ_SEED = "20260128" } = process.env;
const seed = BigInt(FUZZ_SEED === "random" ? randomInt(2 ** 31) : FUZZ_SEED);
/** fast-check takes 32 bits. */
const shortSeed = Number(seed % 2n ** 31n);
/** What the start of the platform, its end, and what a run needs besides its own seconds take at most. */
const overheadSeconds = 90;

const say = (line: string) => void process.stdout.write(`${line}\n`);

type Credentials = { email: string; password: string };

/** SIGTERM ends the run early, but still stops the platform and removes its data. */
const stopping = new AbortController();
process.once("SIGTERM", () => stopping.abort());

async function post(platform: Platform, path: string, body: object, token = ""): Promise<Record<string, string>> {
  const headers = { "content-type": "application/json", ...(token && { authorization: `Bearer ${token}` }) };
  const answer = await fetch(`${platform.gatewayUrl}${path}`, { method: "POST", headers, body: JSON.stringify(body) });
  if (!answer.ok) throw new Error(`POST ${path} answered ${answer.status}: ${await answer.text()}`);
  return answer.status === 202 ? {} : ((await answer.json()) as Record<string, string>);
}

const logIn = async (platform: Platform, credentials: Credentials) => String((await post(platform, "/auth/login", credentials)).token);

/** The token of an administrator of its own for each part, since some end sessions and disable accounts. */
async function newAdmin(platform: Platform): Promise<string> {
  const credentials = { email: `fuzz.${randomInt(2 ** 47)}@example.com`, password: "a long enough passphrase" };
  await post(platform, "/auth/users", { ...credentials, roles: ["admin"] }, await logIn(platform, platform.admin));
  return logIn(platform, credentials);
}

type Run = { document: string; url: string; seconds: number; options: string[] };

/** Runs schemathesis. Gives whether it found nothing. */
function checkDocument(python: string, { document, url, seconds, options }: Run): Promise<boolean> {
  const config = join(import.meta.dirname, "schemathesis.toml");
  // The configuration enables all checks, except some of single operations. Naming checks here would override that.
  const args = ["--config-file", config, "run", document, "--url", url, "--seed", String(seed), "--max-time", String(seconds)];
  const limits = ["--continue-on-failure", "--request-timeout", "10", "--warnings", "off", "--no-color"];
  return new Promise((resolve, reject) => {
    const child = spawn(python, ["-m", "schemathesis.cli", ...args, ...limits, ...options], {
      stdio: "inherit",
      cwd: tmpdir(),
      env: { ...process.env, FUZZ_HOOKS: join(import.meta.dirname, "hooks.py") },
    });
    // schemathesis keeps its time budget, but minimising what it found may take longer. Limit that too.
    const end = () => child.kill("SIGTERM");
    const limit = setTimeout(end, (seconds + 30) * 1_000);
    stopping.signal.addEventListener("abort", end);
    child.on("error", reject);
    child.on("close", (code) => {
      clearTimeout(limit);
      resolve(code === 0);
    });
  });
}

type Part = { name: string; share: number; run: (seconds: number, token: string) => Promise<boolean> };

function partsOf(platform: Platform, python: string): Part[] {
  const { patient, auth, analytics, billing, fhir } = platform.services;
  const anonymous = () => ["--phases", "examples,coverage,fuzzing"];
  const bearer = (token: string) => ["--header", `Authorization: Bearer ${token}`];
  // What ends the session of the run would end the run.
  const inSession = (token: string) => [...bearer(token), "--exclude-operation-id", "logout", "--exclude-operation-id", "endSession"];
  // Coverage includes methods that Envoy does not know. It answers them by 400, before any of our configuration.
  const notByEnvoy = ["--phases", "examples,fuzzing,stateful"];
  const rest = (name: string, share: number, target: { document: string; url: string }, options: (token: string) => string[]): Part => ({
    name,
    share,
    run: (seconds, token) => checkDocument(python, { ...target, seconds, options: options(token) }),
  });
  const direct = (url: string) => ({ document: `${url}/openapi-internal.json`, url });
  const published = (name: string) => ({ document: `${platform.gatewayUrl}/openapi/${name}.json`, url: platform.gatewayUrl });
  /** A part that throws what it finds. */
  const own = (name: string, run: (seconds: number, token: string) => Promise<number>): Part => ({
    name,
    share: 3,
    async run(seconds, token) {
      try {
        say(`${await run(seconds, token)} requests, nothing found`);
        return true;
      } catch (error) {
        say(`FOUND by ${name}: ${(error as Error).message}`);
        return false;
      }
    },
  });
  return [
    rest("patient", 6, direct(patient.url), bearer),
    rest("patient, without a token", 1, direct(patient.url), anonymous),
    rest("analytics", 3, direct(analytics.url), bearer),
    rest("fhir", 5, direct(fhir.url), bearer),
    rest("fhir, without a token", 1, direct(fhir.url), anonymous),
    ...["patient", "analytics", "fhir"].map((name) =>
      rest(`${name}, through the gateway`, 1, published(name), (token) => [...bearer(token), ...notByEnvoy]),
    ),
    own("Connect JSON", async (seconds, token) => {
      const patientIds: string[] = [];
      for (let index = 0; index < 5; index++) {
        const body = { name: "Ada", email: `ada.${index}@example.com`, address: "1 Main St", dateOfBirth: "1985-12-10" };
        patientIds.push(String((await post(platform, "/patients", body, token)).id));
      }
      return fuzzConnect({ url: billing.url, token, patientIds }, seconds, shortSeed);
    }),
    own("files", (seconds, token) => fuzzFiles({ url: patient.url, token }, seconds, shortSeed)),
    // Last, because they end the sessions and disable the accounts that they find.
    rest("auth, without a token", 1, direct(auth.url), anonymous),
    rest("auth, through the gateway", 1, published("auth"), (token) => [...inSession(token), ...notByEnvoy]),
    rest("auth", 4, direct(auth.url), inSession),
  ];
}

async function main(): Promise<void> {
  if (!(minutes > 2)) throw new Error(`FUZZ_MINUTES is a number of minutes above 2, and not "${process.env.FUZZ_MINUTES}"`);
  const python = join(await installSchemathesis(say), "bin", "python");
  const dataDir = mkdtempSync(join(tmpdir(), "pm-fuzz-"));
  const platform = await startPlatform({
    ...{ dataDir, durable: false, log: say },
    env: { all: { LOG_LEVEL: "warn" }, auth: { ACCESS_TOKEN_SECONDS: "3600", SIGNUP: "open" } },
    gateway: { LOGIN_RATE_PER_SECOND: "1000", SIGNUP_RATE_PER_SECOND: "1000", REFRESH_RATE_PER_SECOND: "1000" },
  });
  try {
    const parts = partsOf(platform, python);
    const all = parts.reduce((sum, { share }) => sum + share, 0);
    const summary: string[] = [];
    const tokens: string[] = [];
    for (const _ of parts) tokens.push(await newAdmin(platform));
    for (const [index, { name, share, run }] of parts.entries()) {
      if (stopping.signal.aborted) break;
      say(`\n── ${name} (seed ${seed})`);
      const isClean = await run(Math.floor(((minutes * 60 - overheadSeconds) * share) / all), tokens[index] ?? "");
      summary.push(`${isClean ? "nothing found" : "FOUND        "}  ${name}`);
    }
    say(`\n${summary.join("\n")}\nseed ${seed}`);
    const isClean = summary.length === parts.length && summary.every((line) => line.startsWith("nothing"));
    process.exitCode = isClean ? 0 : 1;
  } finally {
    await platform.stop();
    rmSync(dataDir, { recursive: true, force: true });
  }
}

await main();

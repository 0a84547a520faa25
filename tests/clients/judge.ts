/**
 * A judge: the stock gRPC tools of Python, Go and Java make clients from proto/, and these call billing, directly and
 * through the gateway, with generated code and by server reflection. Ends with 1 if one does not compile or work. What
 * cannot be had here, or is late, is skipped.
 */
import { createHash } from "node:crypto";
import { existsSync, globSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { startPlatform } from "@pm/stack/platform";
import { run } from "@pm/stack/programs/child";
import { type Client, logIn, type PatientAnswer, person } from "../e2e/client.ts";
import { type Language, languages } from "./languages.ts";

/** How long each language may take. */
const minutes = { building: 5, calling: 1 };
const root = resolve(import.meta.dirname, "../..");
const say = (line: string) => void process.stdout.write(`${line}\n`);

let passed = 0;
let failed = 0;

/** Does something for a language within its time; says it if that fails or is late, and returns undefined then. */
async function within<T>(time: number, { name }: Language, work: (signal: AbortSignal) => Promise<T>): Promise<T | undefined> {
  const signal = AbortSignal.timeout(time * 60_000);
  try {
    return await work(signal);
  } catch (error) {
    if (signal.aborted) say(`skipped: gRPC in ${name}: it did not end within ${time} minutes`);
    else {
      failed++;
      const { message } = error as Error;
      say(`${message}\nFAILED gRPC in ${name}: ${message.split("\n")[0]}`);
    }
    return undefined;
  }
}

/** Everything that decides what is built. */
const sources = ["proto/**/*.proto", "tests/clients/{languages.ts,*/*}", "packages/stack/src/versions.ts"];
const digest = createHash("sha256");
for (const file of globSync(sources, { cwd: root }).sort()) digest.update(readFileSync(join(root, file)));
const key = digest.digest("hex");

/** The command of a language's client: newly built, or built before from the same sources. */
async function clientOf(language: Language): Promise<string[] | undefined> {
  const folder = join(root, "node_modules", ".cache", "clients", language.name);
  const record = join(folder, "built.json");
  const build = await language.install(say).catch((error: Error) => {
    say(`skipped: gRPC in ${language.name}: ${error.message.replace(/\s+/g, " ")}`);
    return undefined;
  });
  if (!build) return undefined;
  const before = existsSync(record) ? JSON.parse(readFileSync(record, "utf8")) : undefined;
  if (before?.key === key) return before.command;
  say(`gRPC in ${language.name}: generating and compiling a client`);
  rmSync(folder, { recursive: true, force: true });
  mkdirSync(folder, { recursive: true });
  const command = await within(minutes.building, language, (signal) => build(folder, signal));
  if (command) writeFileSync(record, JSON.stringify({ key, command }));
  return command;
}

async function newPatient(admin: Client) {
  const patient = person();
  const { status, text, body } = await admin.send("POST", "/patients", patient);
  if (status !== 201) throw new Error(`POST /patients answered ${status}: ${text}`);
  return { id: (body as PatientAnswer).id, name: patient.name, email: patient.email };
}

const clients: { language: Language; command: string[] }[] = [];
for (const language of languages) {
  const command = await clientOf(language);
  if (command) clients.push({ language, command });
}

if (clients.length > 0) {
  const dataDir = mkdtempSync(join(tmpdir(), "pm-clients-"));
  const platform = await startPlatform({ dataDir, durable: false, log: say, env: { all: { LOG_LEVEL: "warn" } } });
  try {
    const admin = await logIn(platform);
    const addresses = { billing: `127.0.0.1:${platform.ports.billing}`, "the gateway": new URL(platform.gatewayUrl).host };
    for (const { language, command } of clients) {
      const targets = Object.entries(addresses).map(async ([name, address]) => ({ name, address, patient: await newPatient(admin) }));
      const env = { ...process.env, TOKEN: admin.token, TARGETS: JSON.stringify(await Promise.all(targets)) };
      const [program = "", ...args] = command;
      const output = await within(minutes.calling, language, (signal) => run(program, args, { env, signal }));
      if (output === undefined) continue;
      say(output.trim());
      passed++;
    }
  } finally {
    await platform.stop();
    rmSync(dataDir, { recursive: true, force: true });
  }
}
say(`${passed} passed, ${failed} failed`);
process.exitCode = failed > 0 ? 1 : 0;

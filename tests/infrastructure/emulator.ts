/**
 * Deploys the stacks of infrastructure/ to an emulator of AWS, as far as it has their types: ministack, or the one at
 * LOCALSTACK_ENDPOINT. emulator_client.py makes, updates and deletes them, and asks EKS, RDS and EC2 about them.
 */
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import type { Progress } from "@pm/stack/programs/cache";
import { run, startChild } from "@pm/stack/programs/child";
import { freePort } from "@pm/stack/programs/ports";
import { installPythonPackages } from "@pm/stack/programs/python";
import { until } from "@pm/stack/programs/server";

const infrastructure = resolve(import.meta.dirname, "../../infrastructure");
const say = (line: string) => void process.stdout.write(`${line}\n`);

/**
 * Installs the emulator and its client. Returns their virtual environment. @throws Error with the reason if it cannot.
 */
export function installEmulator(progress: Progress): Promise<string> {
  return installPythonPackages(["ministack==1.4.21", "boto3==1.35.49"], progress);
}

/** Writes the templates of the example in another size. */
async function synthesize(folder: string, profile: string): Promise<string> {
  const example = JSON.parse(readFileSync(join(infrastructure, "settings.example.json"), "utf8")) as object;
  const settings = join(folder, `${profile}.json`);
  writeFileSync(settings, JSON.stringify({ ...example, profile }));
  const env = { CDK_OUTDIR: join(folder, profile), CDK_CONTEXT_JSON: JSON.stringify({ settings }) };
  await run(process.execPath, [join(infrastructure, "src/app.ts")], { env });
  return env.CDK_OUTDIR;
}

async function startEmulator(python: string): Promise<{ url: string; stop(): Promise<void> }> {
  const given = process.env.LOCALSTACK_ENDPOINT;
  if (given) return { url: given, stop: async () => undefined };
  const port = await freePort();
  const url = `http://127.0.0.1:${port}`;
  const env = { PATH: process.env.PATH, BIND_HOST: "127.0.0.1", GATEWAY_PORT: String(port) };
  const child = await startChild({ name: "ministack", command: python, args: ["-m", "ministack.app"], env });
  const answers = () =>
    fetch(`${url}/_ministack/health`).then(
      ({ ok }) => ok,
      () => false,
    );
  await until(answers, 60_000, () => `ministack does not answer:\n${child.tail().join("\n")}`);
  return { url, stop: () => child.stop() };
}

async function main(): Promise<void> {
  const python = join(await installEmulator(say), "bin", "python");
  const folder = mkdtempSync(join(tmpdir(), "pm-emulator-"));
  try {
    const [clinic, hospital] = [await synthesize(folder, "clinic"), await synthesize(folder, "hospital")];
    const emulator = await startEmulator(python);
    try {
      const env = {
        ENDPOINT: emulator.url,
        IS_MINISTACK: process.env.LOCALSTACK_ENDPOINT ? "" : "yes",
        CLINIC: clinic,
        HOSPITAL: hospital,
      };
      say(await run(python, [join(import.meta.dirname, "emulator_client.py")], { env }));
    } finally {
      await emulator.stop();
    }
  } finally {
    rmSync(folder, { recursive: true });
  }
}

if (import.meta.main) await main();

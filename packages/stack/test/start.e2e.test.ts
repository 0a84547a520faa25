/** `npm start` from a person's view: what it prints, what it refuses, and what it leaves behind. */
import { type ChildProcess, execFileSync, spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { afterAll, expect, test } from "vitest";
import { chooseRuntime } from "../src/docker/docker.ts";
import { SERVICES } from "../src/names.ts";
import { startKafka } from "../src/native/kafka.ts";
import { startPostgres } from "../src/native/postgres.ts";
import { isCached } from "../src/programs/cache.ts";
import { freePort } from "../src/programs/ports.ts";
import { commandLine, isAlive, withDescendants } from "../src/programs/processes.ts";
import { until } from "../src/programs/server.ts";
import { COLLECTOR } from "../src/versions.ts";

const program = fileURLToPath(new URL("../src/start.ts", import.meta.url));
const folder = mkdtempSync(join(tmpdir(), "pm-start-test-"));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

const ports: Record<string, string> = {};
for (const name of [...SERVICES, "gateway"]) ports[`PORT_${name.toUpperCase()}`] = String(await freePort());

type Run = { child: ChildProcess; text(): string; exit: Promise<number | null> };

function start(env: Record<string, string> = {}, args: string[] = []): Run {
  const everything = { ...process.env, ...ports, PM_DATA_DIR: join(folder, "data"), ...env };
  const child = spawn(process.execPath, [program, ...args], { env: everything, stdio: ["ignore", "pipe", "pipe"] });
  let text = "";
  for (const stream of [child.stdout, child.stderr]) stream.setEncoding("utf8").on("data", (part: string) => (text += part));
  return { child, text: () => text, exit: once(child, "close").then(([code]) => code as number | null) };
}

async function ready(run: Run): Promise<string> {
  await until(
    () => run.child.exitCode !== null || run.text().includes("keeps the data."),
    300_000,
    () => `not ready: ${run.text()}`,
  );
  expect(run.child.exitCode, run.text()).toBe(null);
  return run.text();
}

/** Runs the printed curl lines in a shell and returns the output of each. */
function paste(text: string): string[] {
  const lines = text.split("\n").filter((line) => /^ {2}(TOKEN=|curl )/.test(line));
  expect(lines).toHaveLength(3);
  const script = lines.map((line) => `${line.trim()}\necho`).join("\n");
  return execFileSync("bash", ["-c", script], { encoding: "utf8" }).trim().split("\n");
}

/** Signs up as somebody new, logs in and registers a patient: the answers of the last two. */
function signUp(): string[] {
  const gateway = `http://localhost:${ports.PORT_GATEWAY}`;
  const account = JSON.stringify({ email: `somebody.${Date.now()}@example.com`, password: "a long enough passphrase" });
  const patient = JSON.stringify({ name: "Ada", email: `ada.${Date.now()}@example.com`, address: "1 Main St", dateOfBirth: "1985-12-10" });
  const post = (path: string, body: string) => `curl -s ${gateway}${path} -H 'content-type: application/json' -d '${body}'`;
  const script = `${post("/auth/signup", account)} >&2
LOGIN=$(${post("/auth/login", account)})
echo "$LOGIN"
TOKEN=$(echo "$LOGIN" | sed 's/.*"token":"\\([^"]*\\)".*/\\1/')
${post("/patients", patient)} -H "authorization: Bearer $TOKEN"`;
  return execFileSync("bash", ["-c", script], { encoding: "utf8", stdio: ["ignore", "pipe", "ignore"] })
    .trim()
    .split("\n");
}

async function refusal(env: Record<string, string>, args: string[] = []): Promise<string> {
  const run = start(env, args);
  expect(await run.exit, run.text()).toBe(1);
  return run.text();
}

/** Waits until all processes have ended. The last is the guard of child.ts, which outlives what it guards. */
const gone = (processes: number[]) =>
  until(
    () => !processes.some(isAlive),
    2_000,
    () => `still there: ${processes.filter(isAlive).map((pid) => `${pid} ${commandLine(pid)}`)}`,
  );

test("the printed lines work, Ctrl-C stops everything, the next start has the data, and --reset forgets it", {
  timeout: 600_000,
}, async () => {
  const first = start();
  const [created = "", listed = ""] = paste(await ready(first));
  const { id } = JSON.parse(created) as { id: string };
  expect(listed).toContain(id);
  const [login = "", registered = ""] = signUp();
  expect([JSON.parse(login), JSON.parse(registered)]).toMatchObject([{ token: expect.any(String) }, { name: "Ada", version: 1 }]);

  expect(await refusal({})).toMatch(/already runs in this clone \(pid \d+\)/);

  const processes = withDescendants(first.child.pid ?? 0);
  expect(processes.length).toBeGreaterThan(5);
  first.child.kill("SIGINT");
  expect(await first.exit).toBe(0);
  await gone(processes);

  const second = start();
  expect(paste(await ready(second))[1]).toContain(id);
  second.child.kill("SIGTERM");
  expect(await second.exit).toBe(0);

  const third = start({}, ["--reset"]);
  expect(paste(await ready(third))[1]).not.toContain(id);
  third.child.kill("SIGHUP");
  expect(await third.exit).toBe(0);
});

/** Building the collector takes minutes, so this needs one that `npm start -- --observe` has built. */
test.runIf(isCached(`collector-${COLLECTOR.version}`))(
  "--observe collects the trace of each request, which a command prints",
  {
    timeout: 600_000,
  },
  async () => {
    const PM_DATA_DIR = join(folder, "observed");
    const run = start({ PM_DATA_DIR }, ["--observe"]);
    expect(await ready(run)).toMatch(/collector {3}http:\/\/127\.0\.0\.1:\d+/);
    const login = await fetch(`http://localhost:${ports.PORT_GATEWAY}/auth/login`, { method: "POST" });
    const print = () =>
      spawnSync(process.execPath, [join(program, "../trace.ts"), String(login.headers.get("x-request-id"))], {
        env: { ...process.env, PM_DATA_DIR },
        encoding: "utf8",
      }).stdout;
    await expect
      .poll(print, { timeout: 20_000, interval: 500 })
      .toMatch(/ms {2}gateway {3}POST auth\.login\n.* ms {2}auth {8}POST \/auth\/login/);
    run.child.kill("SIGINT");
    expect(await run.exit).toBe(0);
  },
);

test("servers that run already are used, and left running with their data, which --reset does not lock away", {
  timeout: 600_000,
}, async () => {
  const [postgres, kafka] = await Promise.all([startPostgres({ durable: false }), startKafka()]);
  const elsewhere = { POSTGRES_URL: postgres.url, KAFKA_BROKERS: kafka.brokers.join(","), PM_DATA_DIR: join(folder, "elsewhere") };
  const first = start(elsewhere);
  const { id } = JSON.parse(paste(await ready(first))[0] ?? "") as { id: string };
  first.child.kill("SIGINT");
  expect(await first.exit).toBe(0);
  const second = start(elsewhere, ["--reset"]);
  expect(paste(await ready(second))[1]).toContain(id);
  second.child.kill("SIGINT");
  expect(await second.exit).toBe(0);
  expect([postgres.running(), kafka.running()]).toEqual([true, true]);
  await Promise.all([postgres.stop(), kafka.stop()]);
});

test("a service that ends by itself ends all, with its last lines", { timeout: 600_000 }, async () => {
  const run = start();
  await ready(run);
  const processes = withDescendants(run.child.pid ?? 0);
  const billing = processes.find((pid) =>
    execFileSync("ps", ["-o", "args=", "-p", String(pid)], { encoding: "utf8" }).includes("billing/src/main.ts"),
  );
  process.kill(billing ?? 0, "SIGKILL");
  expect(await run.exit).toBe(1);
  expect(run.text()).toMatch(/billing ended by itself\. Its last lines:[\s\S]*listening[\s\S]*logs\/billing\.log/);
  await gone(processes);
});

test("a port in use is named, with who has it and the way out", { timeout: 60_000 }, async () => {
  const other = createServer();
  await once(other.listen(Number(ports.PORT_GATEWAY), "127.0.0.1"), "listening");
  const message = await refusal({});
  other.close();
  expect(message).toContain(`port ${ports.PORT_GATEWAY} (gateway) is in use by pid ${process.pid}`);
  expect(message).toMatch(/PORT_GATEWAY=\d+ npm start/);
});

test("a time zone of the clinic that does not exist is refused before anything starts", { timeout: 60_000 }, async () => {
  const message = await refusal({ CLINIC_TIME_ZONE: "Berlin" });
  expect(message).toMatch(/^\s*npm start: [\s\S]*CLINIC_TIME_ZONE: must be the name of an IANA time zone, such as Europe\/Berlin/);
});

test.runIf((await chooseRuntime()) === "native")("programs that are missing are all named at once", { timeout: 60_000 }, async () => {
  const bin = mkdtempSync(join(folder, "bin-"));
  for (const name of ["sh", "dirname"])
    symlinkSync(execFileSync("sh", ["-c", `command -v ${name}`], { encoding: "utf8" }).trim(), join(bin, name));
  const bare = { PATH: bin, JAVA_HOME: "", PM_CACHE_DIR: join(folder, "empty") };
  const message = await refusal(bare);
  for (const what of ["Java 17 or newer", "Maven", "Python 3 with venv"]) expect(message).toContain(what);
  // A Java that is too old does not count.
  writeFileSync(join(bin, "java"), "#!/bin/sh\necho 'openjdk 11.0.20 2023-07-18'\n", { mode: 0o755 });
  expect(await refusal(bare)).toContain('"java" is Java 11');
});

test("what it does not understand is refused with what it would", { timeout: 60_000 }, async () => {
  expect(await refusal({}, ["--rest"])).toMatch(/Unknown option '--rest'[\s\S]*--reset/);
  expect(await refusal({ PORT_AUTH: "http" })).toContain('PORT_AUTH is "http"; it has to be a port, 1 to 65535');
  expect(await refusal({ STACK: "podman" })).toContain('STACK is "podman"; it has to be "docker", "native" or unset');
});

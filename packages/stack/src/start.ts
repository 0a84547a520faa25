/** `npm start`: the whole platform on this machine, until Ctrl-C. */
import { existsSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { join, relative, resolve } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { parseArgs } from "node:util";
import { clinicConfig, readEnvironment } from "@pm/kit/config";
import { removeVolumes } from "./docker/docker.ts";
import { takeLock } from "./lock.ts";
import { PUBLIC_PORTS } from "./names.ts";
import { stopLeftOverKafka } from "./native/kafka.ts";
import { stopLeftOverPostgres } from "./native/postgres-cluster.ts";
import { type Observers, startObservers } from "./observe.ts";
import { missingPrograms, type Platform, startPlatform } from "./platform.ts";
import { stopChildren } from "./programs/child.ts";
import { freePort, holderOf, isFree } from "./programs/ports.ts";
import { commandLine, isAlive, parentOf } from "./programs/processes.ts";
import { targetsOf } from "./prometheus.ts";
import { ROOT } from "./services.ts";

const HELP = `npm start [-- options]

Starts Postgres, Kafka, the services and the gateway on this machine, and prints how to use them.
Ctrl-C stops everything; the data stays in .data and the next start finds it.

  --reset   forget the data of earlier runs first
  --observe start an OpenTelemetry collector and Prometheus beside it, and trace every request; the first time this
            builds the collector, which takes some minutes and needs Go, or Python 3 to download Go
  --help    this text

Environment variables:

  STACK            docker or native: how Postgres, Kafka and Envoy run (by default in Docker if an engine answers)
  PORT_GATEWAY, PORT_PATIENT, PORT_BILLING, PORT_ANALYTICS, PORT_FHIR, PORT_AUTH
                   other ports to listen on
  HOST             0.0.0.0 lets other machines in
  POSTGRES_URL, KAFKA_BROKERS
                   servers that already run (the URL is of a PostgreSQL 18 superuser): they are not stopped, and --reset
                   keeps their data and the secrets that belong to it
  CLINIC_TIME_ZONE the clinic's time zone, such as Europe/Berlin (UTC): its days are those of registrations, invoices and
                   reports
  EMAIL_REQUIRED, EMAIL_UNIQUE, ADDRESS_REQUIRED
                   false lets patients be without e-mail or address, or share an e-mail (true)
  DATE_OF_BIRTH_PRECISION
                   year permits dates of birth such as 1976-05 and 1976 (day)
  PHONE_REGION     the country in which phone numbers without a country code are read (US)
  LOG_LEVEL        the log level of the services
  ADMIN_EMAIL, ADMIN_PASSWORD
                   the first admin; only read at the very first start
  PM_DATA_DIR      the folder of the data (.data)
  PM_CACHE_DIR     the folder of downloads (~/.cache/patient-management)`;

const DATA = resolve(process.env.PM_DATA_DIR || join(ROOT, ".data"));
/** The terminal signals all of us, and npm passes it on: a second signal within this time is the same keypress. */
const SAME_KEY_MS = 1_000;
const WATCH_MS = 500;

const say = (text: string): void => void process.stdout.write(`${text}\n`);

/** Ends the process with a message that names the cause and the way out. The guard of child.ts ends what still runs. */
function fail(message: string): never {
  process.stderr.write(`\nnpm start: ${message}\n`);
  process.exit(1);
}

async function main(): Promise<void> {
  const { reset, observe } = readArguments();
  const ports = readPorts();
  const clinic = readClinic();
  const release = lock();
  process.on("exit", release);
  process.stdout.on("error", () => undefined);
  const starting = handleSignals();
  let hint = "";
  try {
    if (reset) await forget();
    await checkPorts(ports);
    await checkPrograms();
    const preferred = { gatewayAdmin: await freePort(9901), postgres: await freePort(15432), kafka: await freePort(19092) };
    const allPorts = { ...ports, ...preferred, gatewayHealth: await freePort() };
    hint = `\n\nThe logs are in ${relative(process.cwd(), join(DATA, "logs"))}.`;
    const log = (line: string) => say(`  ${line}`);
    const observers = observe ? await startObservers({ dataDir: DATA, targets: targetsOf(allPorts), progress: log }) : undefined;
    const platform = await startPlatform({
      dataDir: DATA,
      ports: allPorts,
      host: process.env.HOST || "127.0.0.1",
      log,
      gateway: observers?.gateway ?? {},
      env: {
        all: { ...clinic, ...(process.env.LOG_LEVEL && { LOG_LEVEL: process.env.LOG_LEVEL }), ...observers?.env },
        // Few people have a mail server at hand, so auth prints its mails (invitations, resets) into its log. Whoever
        // can reach this machine may sign up, and go on as a user.
        auth: { MAIL_URL: "print:", SIGNUP: "open", SIGNUP_ROLE: "user" },
      },
    });
    starting.done(observers ? { ...platform, stop: () => platform.stop().finally(observers.stop) } : platform);
    welcome(platform, observers);
    watch(platform, starting);
  } catch (error) {
    if (starting.stopping()) return starting.unwound();
    fail(`${error instanceof Error ? error.message : String(error)}${hint}`);
  }
}

function readArguments(): { reset: boolean; observe: boolean } {
  try {
    const { values } = parseArgs({
      options: {
        reset: { type: "boolean", default: false },
        observe: { type: "boolean", default: false },
        help: { type: "boolean", short: "h", default: false },
      },
    });
    if (!values.help) return values;
  } catch (error) {
    fail(`${(error as Error).message.split(". ")[0]}\n\n${HELP}`);
  }
  say(HELP);
  process.exit(0);
}

function readPorts(): typeof PUBLIC_PORTS {
  const read = (name: string, standard: number): number => {
    const text = process.env[name] || String(standard);
    const port = Number(text);
    if (!Number.isInteger(port) || port < 1 || port > 65_535) fail(`${name} is "${text}"; it has to be a port, 1 to 65535`);
    return port;
  };
  const ports = Object.entries(PUBLIC_PORTS).map(([name, standard]) => [name, read(`PORT_${name.toUpperCase()}`, standard)]);
  return Object.fromEntries(ports) as typeof PUBLIC_PORTS;
}

/** Services check it too, but only when Postgres and Kafka run. */
function readClinic(): Record<string, string> {
  try {
    return Object.fromEntries(Object.entries(readEnvironment(clinicConfig)).map(([name, value]) => [name, String(value)]));
  } catch (error) {
    fail((error as Error).message);
  }
}

function lock(): () => void {
  const taken = takeLock(join(DATA, "lock"));
  if (typeof taken === "number") fail(`it already runs in this clone (pid ${taken}): stop that one with Ctrl-C, or with: kill ${taken}`);
  return taken;
}

async function checkPorts(ports: typeof PUBLIC_PORTS): Promise<void> {
  const problems: string[] = [];
  for (const [name, port] of Object.entries(ports)) {
    if (await isFree(port)) continue;
    const holder = await holderOf(port);
    const variable = `PORT_${name.toUpperCase()}`;
    problems.push(
      `  port ${port} (${name}) is in use${holder ? ` by ${holder}` : ""}: stop that program, or choose another port: ${variable}=${await freePort(port + 10_000)} npm start`,
    );
  }
  if (problems.length > 0) fail(`there is no room to listen:\n${problems.join("\n")}`);
}

async function checkPrograms(): Promise<void> {
  const missing = await missingPrograms();
  if (missing.length === 0) return;
  const list = missing.map((line) => `  - ${line}`).join("\n");
  fail(
    `no Docker engine answers, and to run without one this machine lacks:\n${list}\nInstall that, or start a Docker engine (\`docker info\` has to work for this user).`,
  );
}

/** Removes everything in .data except our lock and what is still needed. */
async function forget(): Promise<void> {
  await stopLeftOverPostgres(join(DATA, "postgres"));
  await stopLeftOverKafka(join(DATA, "kafka"));
  const secrets = join(DATA, "secrets.json");
  if (existsSync(secrets)) {
    const { id } = JSON.parse(readFileSync(secrets, "utf8")) as { id: string };
    await removeVolumes([`pm-${id}-postgres`, `pm-${id}-kafka`]);
  }
  // A Postgres elsewhere keeps its data, which is encrypted with these secrets. Its first admin has this password.
  const stays = process.env.POSTGRES_URL ? ["lock", "secrets.json"] : ["lock"];
  for (const name of readdirSync(DATA)) if (!stays.includes(name)) rmSync(join(DATA, name), { recursive: true, force: true });
  const kept = ["POSTGRES_URL", "KAFKA_BROKERS"].filter((name) => process.env[name]);
  say(`  the data of earlier runs is forgotten${kept.length > 0 ? ` (not what is behind ${kept.join(" and ")})` : ""}`);
}

type Starting = { done(platform: Platform): void; stopping(): boolean; unwound(): void };

/**
 * How long a start-up that was given up may take to end. After that the guard of child.ts and Docker's Ryuk clean up.
 */
const UNWIND_MS = 20_000;

/** Ctrl-C, `kill` and a closed terminal stop everything in order. A second Ctrl-C does not wait for that. */
function handleSignals(): Starting {
  let platform: Platform | undefined;
  let since: number | undefined;
  const unwinding = Promise.withResolvers<void>();
  const giveUp = async () => {
    await stopChildren();
    await Promise.race([unwinding.promise, sleep(UNWIND_MS)]);
  };
  const stop = (): void => {
    if (since !== undefined) {
      if (performance.now() - since < SAME_KEY_MS) return;
      say("  stopping at once");
      stopChildren(0).finally(() => process.exit(1));
      return;
    }
    since = performance.now();
    say("\n  stopping (the data stays; Ctrl-C again does not wait)");
    const stopped = platform ? platform.stop() : giveUp();
    stopped.then(
      () => process.exit(0),
      (error: unknown) => fail(String(error)),
    );
  };
  for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"] as const) process.on(signal, stop);
  // If npm itself is killed, nobody else would ever stop us.
  const npm = npmAbove();
  if (npm !== undefined) setInterval(() => since === undefined && !isAlive(npm) && stop(), WATCH_MS).unref();
  return {
    done: (started) => {
      platform = started;
    },
    stopping: () => since !== undefined,
    unwound: unwinding.resolve,
  };
}

/** The pid of the npm that runs us, if one does. There may be a shell between npm and us. */
function npmAbove(): number | undefined {
  if (process.env.npm_lifecycle_event === undefined) return undefined;
  return / -c /.test(commandLine(process.ppid)) ? parentOf(process.ppid) : process.ppid;
}

/** If a part ends by itself, everything is stopped: an incomplete platform is worse than none. */
function watch({ postgres, kafka, envoy, services, stop }: Platform, starting: Starting): void {
  const parts = { postgres, kafka, gateway: envoy, ...services };
  const timer = setInterval(async () => {
    if (starting.stopping()) return clearInterval(timer);
    const failed = Object.entries(parts).find(([, part]) => !part.running());
    if (!failed) return;
    clearInterval(timer);
    const [name, part] = failed;
    const lines = await part.tail();
    await stop();
    fail(
      `${name} ended by itself. Its last lines:\n\n${lines.join("\n")}\n\nAll of them: ${relative(process.cwd(), join(DATA, "logs", `${name}.log`))}`,
    );
  }, WATCH_MS);
}

function welcome({ gatewayUrl, admin, ports, postgres }: Platform, observers: Observers | undefined): void {
  const login = shellQuote(JSON.stringify(admin));
  const json = "-H 'content-type: application/json'";
  const bearer = '-H "authorization: Bearer $TOKEN"';
  const patient = `'{"name":"Ada Lovelace","email":"ada.'$(date +%s)'@example.com","address":"12 St James Square, London","dateOfBirth":"1985-12-10"}'`;
  say(`
The platform is ready.

  gateway     ${gatewayUrl}  (documentation: ${gatewayUrl}/docs)
  services    patient :${ports.patient}   billing :${ports.billing} (gRPC)   analytics :${ports.analytics}   auth :${ports.auth}   fhir :${ports.fhir}
  database    ${postgres.url}
  logs        ${relative(process.cwd(), join(DATA, "logs"))}
  admin       ${admin.email}   password: ${admin.password}${observers ? observed(observers) : ""}

Log in, create a patient, list patients:

  TOKEN=$(curl -s ${gatewayUrl}/auth/login ${json} -d ${login} | sed 's/.*"token":"\\([^"]*\\)".*/\\1/')
  curl -s ${gatewayUrl}/patients ${bearer} ${json} -d ${patient}
  curl -s ${gatewayUrl}/patients ${bearer}

The first line needs the password of the first start. If you have changed it, or set up a second factor, put the new
password there, and after it ,"code":"123456" with the six digits of your app.

Ctrl-C stops everything and keeps the data.`);
}

function observed({ collectorUrl, prometheusUrl }: Observers): string {
  return `
  collector   ${collectorUrl}  (OTLP over HTTP; a request's trace: npm run trace -- <x-request-id>)
  prometheus  ${prometheusUrl ?? "not started: install it (Debian: apt install prometheus), or start a Docker engine"}`;
}

function shellQuote(text: string): string {
  return `'${text.replaceAll("'", "'\\''")}'`;
}

await main();

import { existsSync, mkdirSync, renameSync } from "node:fs";
import { join } from "node:path";
import { chooseRuntime } from "./docker/docker.ts";
import { environmentFor, gatewayVariables } from "./environment.ts";
import { DATABASES, type DatabaseName, type Ports, PUBLIC_PORTS, SERVICES, type ServiceName } from "./names.ts";
import { type Envoy, installEnvoy, missingForEnvoy, startEnvoy } from "./native/envoy.ts";
import { type Kafka, startKafka, type Topic } from "./native/kafka.ts";
import { missingForKafka } from "./native/kafka-installation.ts";
import { type DatabaseUrls, type Postgres, startPostgres } from "./native/postgres.ts";
import type { Progress } from "./programs/cache.ts";
import { freePort } from "./programs/ports.ts";
import { until } from "./programs/server.ts";
import { forgetRunning, noteRunning } from "./running.ts";
import { loadSecrets, type Secrets } from "./secrets.ts";
import { migrate, ROOT, type Service, type ServiceOptions, startService } from "./services.ts";

/** The whole platform on this machine: Postgres, Kafka, the services and Envoy, each in its own process. */
export type Platform = {
  /** `http://localhost:<port>`: clients use it, and it is the issuer of access tokens. */
  gatewayUrl: string;
  admin: { email: string; password: string };
  ports: Ports;
  postgres: Postgres;
  kafka: Kafka;
  envoy: Envoy;
  services: Record<ServiceName, Service>;
  databases: Databases;
  secrets: Secrets;
  /** Stops everything, youngest first. The data stays. */
  stop(): Promise<void>;
};

type Databases = Record<DatabaseName, DatabaseUrls>;
type Environment = Record<string, string>;

type PlatformOptions = {
  /** Keeps data, secrets and logs for later starts. */
  dataDir: string;
  /** By default free ones. */
  ports?: Partial<Ports>;
  /** The address that the services and the gateway listen on, by default the loopback interface. */
  host?: string;
  /** See `PostgresOptions`. */
  durable?: boolean;
  log?: Progress;
  /** Environment variables to add or to change, for one service or for all. */
  env?: Partial<Record<ServiceName | "all", Environment>>;
  /** Placeholders of the gateway's template to change. */
  gateway?: Record<string, string>;
};

const DAY_MS = 24 * 60 * 60 * 1000;
/** A service that starts reads `auth.v1` from its beginning, so the topic reaches back as far as a session can live. */
const TOPICS: Topic[] = [
  // This bounds how long Kafka still has what an erasure removes elsewhere (docs/privacy.md).
  ...["patient.v1", "billing.v1", "patient.v1.dead", "billing.v1.dead"].map((topic) => ({
    topic,
    config: { "retention.ms": process.env.EVENT_RETENTION_MS || String(7 * DAY_MS) },
  })),
  { topic: "auth.v1.dead", config: { "retention.ms": "-1" } },
  { topic: "auth.v1", config: { "cleanup.policy": "delete", "retention.ms": String(400 * DAY_MS) } },
  { topic: "patient.erasures", partitions: 1, config: { "cleanup.policy": "compact", "retention.ms": "-1" } },
];

/** Starts everything and returns when the gateway answers. If anything fails, stops what runs already and throws. */
export async function startPlatform(options: PlatformOptions): Promise<Platform> {
  const { dataDir, host = "127.0.0.1", log = () => undefined } = options;
  const layers = createLayers(log);
  try {
    const secrets = loadSecrets(dataDir);
    const ports = await choosePorts(options.ports ?? {});
    const gatewayUrl = `http://localhost:${ports.gateway}`;
    const logFile = logFilesIn(join(dataDir, "logs"));
    const { postgres, kafka, databases } = await startParts(options, { layers, secrets, ports, logFile, log });
    const environment = environmentFor({ secrets, ports, gatewayUrl, host, brokers: kafka.brokers, databases });
    const envOf = (name: ServiceName) => ({ ...environment[name], ...options.env?.all, ...options.env?.[name] });
    const services = await startServices(layers, (name) => ({ name, port: ports[name], env: envOf(name), logFile: logFile(name) }));
    const variables = { ...gatewayVariables(SERVICES, ports, gatewayUrl, host), ...options.gateway };
    const template = join(ROOT, "services", "gateway", "envoy.yaml");
    const gateway = { template, variables, port: ports.gateway, adminPort: ports.gatewayAdmin, logFile: logFile("gateway"), progress: log };
    const envoy = await layers.begin("gateway", "gateway", startEnvoy(gateway));
    await until(
      async () => (await fetch(`${envoy.url}/.well-known/jwks.json`).catch(() => undefined))?.status === 200,
      30_000,
      () => `the gateway does not reach auth; see ${join(dataDir, "logs", "gateway.log")}`,
    );
    const admin = { email: secrets.adminEmail, password: secrets.adminPassword };
    const ofServices = Object.fromEntries(SERVICES.map((name) => [name, [services[name].pid]])) as Record<ServiceName, number[]>;
    const pids = { ...ofServices, kafka: kafka.pids() };
    noteRunning(dataDir, { gatewayUrl, admin, ports, postgresUrl: postgres.url, brokers: kafka.brokers, pids });
    const stop = () => layers.stop().finally(() => forgetRunning(dataDir));
    return { gatewayUrl, admin, ports, postgres, kafka, envoy, services, databases, secrets, stop };
  } catch (error) {
    await layers.stop();
    throw error;
  }
}

type Layers = ReturnType<typeof createLayers>;
type Layer = "parts" | "services" | "gateway";

/** Remembers how to stop the parts that run. The parts of a layer stop together, and before the layer below. */
function createLayers(log: Progress) {
  const open: Record<Layer, (() => Promise<void>)[]> = { gateway: [], services: [], parts: [] };
  return {
    /** Waits for a part to start and logs how long that took. */
    async begin<T extends { stop(): Promise<void> }>(layer: Layer, name: string, starting: Promise<T>): Promise<T> {
      const since = performance.now();
      const part = await starting;
      open[layer].push(part.stop);
      log(`${name} is ready (${((performance.now() - since) / 1000).toFixed(1)} s)`);
      return part;
    },
    async stop(): Promise<void> {
      for (const layer of ["gateway", "services", "parts"] as const) await Promise.all(open[layer].splice(0).map((stop) => stop()));
    },
  };
}

type Start = { layers: Layers; secrets: Secrets; ports: Ports; logFile: (name: string) => string; log: Progress };

/** Starts Postgres and Kafka. Meanwhile migrates the databases and downloads Envoy. */
async function startParts({ dataDir, durable = true, env = {} }: PlatformOptions, { layers, secrets, ports, logFile, log }: Start) {
  const common = (name: string) => ({
    dataDir: join(dataDir, name),
    volume: `pm-${secrets.id}-${name}`,
    logFile: logFile(name),
    progress: log,
  });
  const database = { ...common("postgres"), port: ports.postgres, password: secrets.postgresPassword, durable };
  const startingPostgres = layers.begin("parts", "postgres", startPostgres(database));
  const startingKafka = layers.begin("parts", "kafka", startKafka({ ...common("kafka"), port: ports.kafka }));
  const [postgres, kafka, databases] = await all([
    startingPostgres,
    startingKafka,
    startingPostgres.then((server) => migrateAll(server, (name) => ({ ...env.all, ...env[name] }), logFile, log)),
    startingKafka.then((broker) => broker.createTopics(TOPICS)),
    chooseRuntime().then((runtime) => (runtime === "native" ? installEnvoy(log) : undefined)),
  ]);
  return { postgres, kafka, databases };
}

/** Starts all services at once; they wait for each other. If one fails, the others are given up. */
async function startServices(layers: Layers, optionsOf: (name: ServiceName) => ServiceOptions): Promise<Platform["services"]> {
  const giveUp = new AbortController();
  const one = async (name: ServiceName) => {
    try {
      return await layers.begin("services", name, startService({ ...optionsOf(name), signal: giveUp.signal }));
    } catch (error) {
      giveUp.abort();
      throw error;
    }
  };
  const started = await all(SERVICES.map(one));
  return Object.fromEntries(SERVICES.map((name, index) => [name, started[index]])) as Platform["services"];
}

/** Like Promise.all, but waits for all before it throws the first error: only then is it known what to stop. */
async function all<T extends readonly unknown[]>(promises: readonly [...{ [K in keyof T]: Promise<T[K]> }]): Promise<T> {
  const errors: unknown[] = [];
  await Promise.all(promises.map((promise) => promise.catch((error: unknown) => errors.push(error))));
  if (errors.length > 0) throw errors[0];
  return (await Promise.all(promises)) as unknown as T;
}

/** Names the log file of each part, and keeps the one of the last run beside it. */
function logFilesIn(folder: string): (name: string) => string {
  mkdirSync(folder, { recursive: true });
  return (name) => {
    const file = join(folder, `${name}.log`);
    if (existsSync(file)) renameSync(file, join(folder, `${name}.previous.log`));
    return file;
  };
}

/** What this machine lacks to run the platform; empty if it lacks nothing. */
export async function missingPrograms(): Promise<string[]> {
  if ((await chooseRuntime()) === "docker") return [];
  const kafka = process.env.KAFKA_BROKERS ? [] : await missingForKafka();
  return [...kafka, ...(await missingForEnvoy())];
}

async function choosePorts(given: Partial<Ports>): Promise<Ports> {
  const publicNames = Object.keys(PUBLIC_PORTS) as (keyof typeof PUBLIC_PORTS)[];
  const names = [...publicNames, "gatewayAdmin", "gatewayHealth", "postgres", "kafka"] as const;
  const ports: Partial<Ports> = {};
  for (const name of names) ports[name] = given[name] ?? (await freePort());
  return ports as Ports;
}

async function migrateAll(
  postgres: Postgres,
  envOf: (name: DatabaseName) => Environment,
  logFile: (name: string) => string,
  log: Progress,
): Promise<Databases> {
  const one = async (name: DatabaseName) => {
    const urls = await postgres.createDatabase(name);
    await migrate({
      name,
      env: { ...envOf(name), DATABASE_URL: urls.databaseUrl, MIGRATION_DATABASE_URL: urls.migrationDatabaseUrl },
      logFile: logFile(`${name}-migrations`),
    });
    return [name, urls] as const;
  };
  const done = await Promise.all(DATABASES.map(one));
  log("databases are migrated");
  return Object.fromEntries(done) as Databases;
}

import { existsSync, mkdirSync, renameSync } from "node:fs";
import { join } from "node:path";
import { chooseWay } from "./docker/docker.ts";
import { environmentFor, gatewayVariables } from "./environment.ts";
import { type Envoy, installEnvoy, missingForEnvoy, startEnvoy } from "./native/envoy.ts";
import { type Kafka, missingForKafka, startKafka, type Topic } from "./native/kafka.ts";
import { type Postgres, startPostgres } from "./native/postgres.ts";
import type { Progress } from "./programs/cache.ts";
import { freePort } from "./programs/ports.ts";
import { until } from "./programs/server.ts";
import { loadSecrets, type Secrets } from "./secrets.ts";
import { migrate, ROOT, type Service, type ServiceOptions, startService } from "./services.ts";

export const SERVICES = ["auth", "billing", "patient", "analytics"] as const;
export type ServiceName = (typeof SERVICES)[number];
export type Ports = Record<ServiceName | "gateway" | "gatewayAdmin" | "gatewayHealth" | "postgres" | "kafka", number>;

/** The whole platform on this machine: Postgres, Kafka, the four services and Envoy, each a process of its own. */
export type Platform = {
  /** `http://localhost:<port>`: what clients use, and the issuer of access tokens. */
  gatewayUrl: string;
  admin: { email: string; password: string };
  ports: Ports;
  postgres: Postgres;
  kafka: Kafka;
  envoy: Envoy;
  services: Record<ServiceName, Service>;
  /** The two URLs of each service's database. */
  databases: Record<ServiceName, { databaseUrl: string; migrationDatabaseUrl: string }>;
  secrets: Secrets;
  /** Stops everything, the youngest first. The data stays. */
  stop(): Promise<void>;
};

export type PlatformOptions = {
  /** Data, secrets and logs; a later start finds them. */
  dataDir: string;
  /** Free ones where not said. */
  ports?: Partial<Ports>;
  /** Where the services and the gateway listen; the loopback interface where not said. */
  host?: string;
  /** See `startPostgres`. */
  durable?: boolean;
  log?: Progress;
  /** Variables on top of those of docs/architecture.md, for all services or for one. */
  env?: Partial<Record<ServiceName | "all", Record<string, string>>>;
  /** On top of those of the gateway's template. */
  gateway?: Record<string, string>;
};

const DAY_MS = 24 * 60 * 60 * 1000;
/** `auth.v1` is read from its beginning by every service that starts: it has to reach back as far as a session can live. */
const TOPICS: Topic[] = [
  ...["patient.v1", "billing.v1", "patient.v1.dead", "billing.v1.dead", "auth.v1.dead"].map((topic) => ({
    topic,
    config: { "retention.ms": "-1" },
  })),
  { topic: "auth.v1", config: { "cleanup.policy": "delete", "retention.ms": String(400 * DAY_MS) } },
];

/** Starts everything and returns when requests through the gateway are answered; where that fails, stops what runs and throws. */
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
    return { gatewayUrl, admin, ports, postgres, kafka, envoy, services, databases, secrets, stop: layers.stop };
  } catch (error) {
    await layers.stop();
    throw error;
  }
}

type Layers = ReturnType<typeof createLayers>;
type Layer = "parts" | "services" | "gateway";

/** Keeps how to stop what runs. A layer is stopped together, and before the one that it stands on. */
function createLayers(log: Progress) {
  const open: Record<Layer, (() => Promise<void>)[]> = { gateway: [], services: [], parts: [] };
  return {
    /** Says when `starting` is done, and how long it took. */
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

/** Postgres and Kafka. The databases are migrated while Kafka is still on its way, and Envoy is downloaded meanwhile. */
async function startParts({ dataDir, durable = true }: PlatformOptions, { layers, secrets, ports, logFile, log }: Start) {
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
    startingPostgres.then((server) => migrateAll(server, logFile, log)),
    startingKafka.then((broker) => broker.createTopics(TOPICS)),
    chooseWay().then((way) => (way === "native" ? installEnvoy(log) : undefined)),
  ]);
  return { postgres, kafka, databases };
}

/** All services at once: they wait for each other where they have to. Where one fails, the others are given up. */
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
  const [auth, billing, patient, analytics] = await all([one("auth"), one("billing"), one("patient"), one("analytics")]);
  return { auth, billing, patient, analytics };
}

/** Like Promise.all, with the error that came first; but the others are awaited too: only then is it known what there is to stop. */
async function all<T extends readonly unknown[]>(promises: readonly [...{ [K in keyof T]: Promise<T[K]> }]): Promise<T> {
  const errors: unknown[] = [];
  await Promise.all(promises.map((promise) => promise.catch((error: unknown) => errors.push(error))));
  if (errors.length > 0) throw errors[0];
  return (await Promise.all(promises)) as unknown as T;
}

/** The log file of each part; that of the last run is kept beside it. */
function logFilesIn(folder: string): (name: string) => string {
  mkdirSync(folder, { recursive: true });
  return (name) => {
    const file = join(folder, `${name}.log`);
    if (existsSync(file)) renameSync(file, join(folder, `${name}.previous.log`));
    return file;
  };
}

/** What has to be installed on this machine before `startPlatform` can work; empty where nothing is missing. */
export async function missingPrograms(): Promise<string[]> {
  if ((await chooseWay()) === "docker") return [];
  const kafka = process.env.KAFKA_BROKERS ? [] : await missingForKafka();
  return [...kafka, ...(await missingForEnvoy())];
}

async function choosePorts(given: Partial<Ports>): Promise<Ports> {
  const names = [...SERVICES, "gateway", "gatewayAdmin", "gatewayHealth", "postgres", "kafka"] as const;
  const ports: Partial<Ports> = {};
  for (const name of names) ports[name] = given[name] ?? (await freePort());
  return ports as Ports;
}

type Databases = Platform["databases"];

async function migrateAll(postgres: Postgres, logFile: (name: string) => string, log: Progress): Promise<Databases> {
  const one = async (name: ServiceName) => {
    const urls = await postgres.createDatabase(name);
    await migrate({
      name,
      env: { DATABASE_URL: urls.databaseUrl, MIGRATION_DATABASE_URL: urls.migrationDatabaseUrl },
      logFile: logFile(`${name}-migrations`),
    });
    return [name, urls] as const;
  };
  const done = await Promise.all(SERVICES.map(one));
  log("databases are migrated");
  return Object.fromEntries(done) as Databases;
}

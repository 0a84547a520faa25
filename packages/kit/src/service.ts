/** What every service starts with. Its main.ts adds its own parts, then listens; all closes in the reverse order. */
import type { z } from "zod";
import { startAuditSealer } from "./audit/audit.ts";
import { type AuditTrail, createAuditTrail } from "./audit/trail.ts";
import { followRevocations, snapshotFromAuth } from "./auth/revocations.ts";
import { createServiceTokens } from "./auth/service-tokens.ts";
import { createVerifier, type KnownRevocations, type Verifier } from "./auth/verifier.ts";
import { showChecks } from "./checks.ts";
import type { callerConfig, commonConfig, databaseConfig, kafkaConfig, tokenConfig } from "./config.ts";
import { createKafka, createSender, type Kafka, kafkaSettings } from "./kafka/client.ts";
import { startRelay } from "./kafka/outbox.ts";
import { createLifecycle, type Lifecycle } from "./lifecycle.ts";
import { createLogger, type Logger } from "./log.ts";
import { type Database, type DatabaseSettings, databaseSettings, openDatabase } from "./postgres/database.ts";
import type { Leader } from "./postgres/leader.ts";
import { showStatistics } from "./postgres/statistics.ts";
import { startTracing } from "./telemetry/tracing.ts";

type Config<Shape extends z.ZodRawShape> = z.infer<z.ZodObject<Shape>>;
type ServiceConfig = Config<typeof commonConfig & typeof databaseConfig & typeof kafkaConfig>;

/** The names fit the options of what a service builds from it: `createRestApp({ ...parts, verifier })`. */
type ServiceParts<Tables> = {
  service: string;
  log: Logger;
  lifecycle: Lifecycle;
  settings: DatabaseSettings;
  db: Database<Tables>;
  kafka: Kafka;
  audit: AuditTrail;
  /** Publishes the outbox; wake it after every commit that wrote to the outbox. */
  relay: Leader;
};

type Process = Pick<ServiceParts<never>, "service" | "log" | "lifecycle">;

/** Starts the log and the tracing of a service, which is all that one without a database needs. */
export function startStateless({ service, config }: { service: string; config: Config<typeof commonConfig> }): Process {
  const log = createLogger(service, config.LOG_LEVEL);
  const lifecycle = createLifecycle({ log, drainMs: config.SHUTDOWN_DRAIN_MS, graceMs: config.SHUTDOWN_GRACE_MS });
  startTracing({ service, config, log, lifecycle });
  return { service, log, lifecycle };
}

/** Starts the log, the database, the outbox relay and the audit sealer of a service. */
export function startService<Tables>(options: {
  /** Its name in logs, in Kafka, in Postgres and in the access table. */
  service: string;
  config: ServiceConfig;
  /** How long events are collected before they are sent; see `startRelay`. */
  lingerMs?: number;
}): ServiceParts<Tables> {
  const { config, lingerMs } = options;
  const { service, log, lifecycle } = startStateless(options);
  const settings = databaseSettings(config);
  const db = openDatabase<Tables>({ settings, poolSize: config.DATABASE_POOL_SIZE, applicationName: service, log, lifecycle });
  showStatistics(db.pool);
  showChecks(db.pool, config.EXPECTED_CHECKS);
  const kafka = createKafka(kafkaSettings(service, config), log);
  const sender = createSender(kafka);
  const relay = startRelay({ db, settings, sender, service, ...(lingerMs !== undefined && { lingerMs }), log, lifecycle });
  startAuditSealer({ db, settings, log, lifecycle });
  return { service, log, lifecycle, settings, db, kafka, audit: createAuditTrail(db), relay };
}

/** Nobody's tokens are revoked, as far as this process knows. */
const unknownRevocations: KnownRevocations = { isRevoked: () => false, onRevoked: () => () => undefined };

/**
 * Verifies signature and expiry of tokens, for a service that passes each request on with its caller's token. The
 * services behind it know which sessions have ended, so this one needs neither Kafka nor a secret.
 */
export function createPassingVerifier(config: Config<typeof tokenConfig> & { AUTH_URL: string }): Verifier {
  const { AUTH_URL: authUrl, AUTH_ISSUER: issuer, AUTH_AUDIENCE: audience } = config;
  return createVerifier({ authUrl, issuer, audience, revocations: unknownRevocations });
}

/**
 * Verifies callers by auth, and gets the token by which this service calls others. Auth itself does not use it: it has
 * the keys and the revocations.
 */
export function connectToAuth<Tables>(
  { service, kafka, log, lifecycle }: ServiceParts<Tables>,
  config: Config<typeof callerConfig>,
): { verifier: Verifier; serviceToken: () => Promise<string> } {
  const { AUTH_URL: authUrl, AUTH_ISSUER: issuer, AUTH_AUDIENCE: audience, CLIENT_SECRET: clientSecret } = config;
  const serviceToken = createServiceTokens({ authUrl, clientId: service, clientSecret });
  const fetchSnapshot = snapshotFromAuth({ authUrl, serviceToken });
  const revocations = followRevocations({ service, kafka, fetchSnapshot, log, lifecycle });
  return { verifier: createVerifier({ authUrl, issuer, audience, revocations }), serviceToken };
}

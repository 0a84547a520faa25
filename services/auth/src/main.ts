import { availableParallelism } from "node:os";
import { startSealer } from "@pm/kit/audit";
import { createVerifier } from "@pm/kit/auth";
import { loadConfig } from "@pm/kit/config";
import { databaseSettings, openDatabase } from "@pm/kit/db";
import { createKafka, createSender, kafkaSettings } from "@pm/kit/kafka";
import { createLifetime } from "@pm/kit/lifetime";
import { createLogger } from "@pm/kit/log";
import { startRelay } from "@pm/kit/outbox";
import { createRestApp, listenHttp } from "@pm/kit/rest";
import { startWithAdmin } from "./admin.ts";
import { config as shape } from "./config.ts";
import { createSigningKeys, startKeyMaintenance } from "./keys.ts";
import { createOrigins } from "./origin.ts";
import { createPasswords } from "./passwords.ts";
import { registerRest } from "./rest.ts";
import type { AuthTables } from "./schema.ts";
import { createSealer } from "./seal.ts";
import { createSessions } from "./sessions.ts";
import { createServiceClients, createTokens } from "./tokens.ts";

const config = loadConfig(shape);
const log = createLogger("auth", config.LOG_LEVEL);
const lifetime = createLifetime({ log, drainMs: config.SHUTDOWN_DRAIN_MS, graceMs: config.SHUTDOWN_GRACE_MS });
const settings = databaseSettings(config);
const database = openDatabase<AuthTables>({ settings, poolSize: config.DATABASE_POOL_SIZE, applicationName: "auth", log, lifetime });
const kafka = createKafka(kafkaSettings("auth", config), log);
const relay = startRelay({ database, settings, sender: createSender(kafka), service: "auth", log, lifetime });
const sealer = startSealer({ database, settings, log, lifetime });
const wake = () => {
  relay.wake();
  sealer.wake();
};

const { AUTH_ISSUER: issuer, AUTH_AUDIENCE: audience, ACCESS_TOKEN_SECONDS: tokenSeconds } = config;
const keys = createSigningKeys({
  database,
  sealer: createSealer(config.KEY_ENCRYPTION_KEY, "signing keys"),
  publishSeconds: config.KEY_PUBLISH_SECONDS,
  rotationSeconds: config.KEY_ROTATION_SECONDS,
  tokenSeconds,
  now: Date.now,
});
startKeyMaintenance(keys, { log, lifetime });
// One thread of libuv's four stays free for names and files.
const passwords = await createPasswords({ concurrency: Math.min(3, availableParallelism() + 1), maxQueue: config.PASSWORD_QUEUE });
startWithAdmin({ database, passwords, email: config.ADMIN_EMAIL, password: config.ADMIN_PASSWORD, log, lifetime });

const tokens = createTokens({ keys, issuer, audience, lifetimeSeconds: tokenSeconds, now: Date.now });
const clients = createServiceClients({
  patient: config.PATIENT_CLIENT_SECRET,
  billing: config.BILLING_CLIENT_SECRET,
  analytics: config.ANALYTICS_CLIENT_SECRET,
});
const sessions = createSessions({
  database,
  passwords,
  tokens,
  settings: {
    idleSeconds: config.SESSION_IDLE_SECONDS,
    maxSeconds: config.SESSION_MAX_SECONDS,
    graceSeconds: config.REFRESH_GRACE_SECONDS,
  },
  now: Date.now,
  wake,
});

const verifier = createVerifier({ keys: keys.resolve, issuer, audience, isRevoked: () => false });
const rest = createRestApp({
  service: "auth",
  title: "Auth",
  description: "Accounts, sign-in, sessions and the keys of access tokens.",
  log,
  lifetime,
  verifier,
});
registerRest(rest, { database, sessions, tokens, keys, clients, issuer, originOf: createOrigins(config.GATEWAY_NETWORKS) });
await listenHttp({ app: rest.app, host: config.HOST, port: config.PORT, log, lifetime });

/** Auth: everything it is made of, in the order in which it is built; closed in the reverse one. */
import { startSealer } from "@pm/kit/audit";
import { createVerifier } from "@pm/kit/auth";
import { loadConfig } from "@pm/kit/config";
import { createCursors } from "@pm/kit/cursor";
import { databaseSettings, openDatabase } from "@pm/kit/db";
import { createKafka, createSender, kafkaSettings } from "@pm/kit/kafka";
import { createLifetime } from "@pm/kit/lifetime";
import { createLogger } from "@pm/kit/log";
import { startRelay } from "@pm/kit/outbox";
import { createRestApp, listenHttp } from "@pm/kit/rest";
import { followRevocations } from "@pm/kit/revocations";
import { createAccounts } from "./accounts.ts";
import { registerAccounts } from "./accounts-rest.ts";
import { startWithAdmin } from "./admin.ts";
import { createChanges } from "./changes.ts";
import { authConfig } from "./config.ts";
import { createFactors } from "./factors.ts";
import { registerFactors } from "./factors-rest.ts";
import { startHousekeeping } from "./housekeeping.ts";
import { createSigningKeys, startKeyMaintenance } from "./keys.ts";
import { createLetters } from "./letters.ts";
import { createMailer } from "./mail.ts";
import { createOrigins } from "./origin.ts";
import { createPasswords, hashesAtOnce } from "./passwords.ts";
import { registerRest } from "./rest.ts";
import { createRevocationSnapshot } from "./revocations.ts";
import type { AuthTables } from "./schema.ts";
import { createSealer } from "./seal.ts";
import { createSessions } from "./sessions.ts";
import { selectAccount } from "./sessions-store.ts";
import { createTeams } from "./teams.ts";
import { registerTeams } from "./teams-rest.ts";
import { createThrottle } from "./throttle.ts";
import { createServiceClients, createTokens } from "./tokens.ts";
import { createUsers } from "./users.ts";
import { registerUsers } from "./users-rest.ts";

const config = loadConfig(authConfig);
const service = "auth";
const now = Date.now;
const log = createLogger(service, config.LOG_LEVEL);
const lifetime = createLifetime({ log, drainMs: config.SHUTDOWN_DRAIN_MS, graceMs: config.SHUTDOWN_GRACE_MS });
const settings = databaseSettings(config);
const database = openDatabase<AuthTables>({ settings, poolSize: config.DATABASE_POOL_SIZE, applicationName: service, log, lifetime });
const kafka = createKafka(kafkaSettings(service, config), log);

const { AUTH_ISSUER: issuer, AUTH_AUDIENCE: audience, ACCESS_TOKEN_SECONDS: tokenSeconds, KEY_ENCRYPTION_KEY: secret } = config;
const revocationSnapshot = createRevocationSnapshot({ database, tokenSeconds, now });
const revocations = followRevocations({ service, kafka, fetchSnapshot: revocationSnapshot, log, lifetime });
const relay = startRelay({ database, settings, sender: createSender(kafka), service, gatherMs: 25, log, lifetime });
startSealer({ database, settings, log, lifetime });
const changes = createChanges({ database, tokenSeconds, now, wake: relay.wake, revoked: revocations.add });

const keys = createSigningKeys({
  database,
  changes,
  sealer: createSealer(secret, "signing keys"),
  publishSeconds: config.KEY_PUBLISH_SECONDS,
  rotationSeconds: config.KEY_ROTATION_SECONDS,
  tokenSeconds,
  now,
});
startKeyMaintenance(keys, { log, lifetime });
const passwords = await createPasswords({ concurrency: hashesAtOnce, maxQueue: config.PASSWORD_QUEUE });
startWithAdmin({ database, changes, passwords, email: config.ADMIN_EMAIL, password: config.ADMIN_PASSWORD, log, lifetime });

const tokens = createTokens({ keys, issuer, audience, lifetimeSeconds: tokenSeconds, now });
const clients = createServiceClients({
  patient: config.PATIENT_CLIENT_SECRET,
  billing: config.BILLING_CLIENT_SECRET,
  analytics: config.ANALYTICS_CLIENT_SECRET,
});
const policy = config.SECOND_FACTOR_REQUIRED;
const factors = createFactors({ database, sealer: createSealer(secret, "second factors"), policy, issuer: "Patient Management", now });
const throttle = createThrottle({ database, secret, selectAccount });
const sessions = createSessions({
  ...{ database, changes, passwords, throttle, factors, tokens, now },
  settings: {
    idleSeconds: config.SESSION_IDLE_SECONDS,
    maxSeconds: config.SESSION_MAX_SECONDS,
    graceSeconds: config.REFRESH_GRACE_SECONDS,
  },
});
const mailer = createMailer({ url: config.MAIL_URL, from: config.MAIL_FROM, log });
lifetime.onClose("mail", () => mailer.close());
const letters = createLetters(mailer, config.LINK_BASE_URL ?? issuer);
const accounts = createAccounts({
  ...{ database, changes, passwords, sessions, throttle, factors, letters, signup: config.SIGNUP },
  onError: (error) => log.error({ err: error }, "what was to be done after an answer failed"),
});
lifetime.onClose("accounts", () => accounts.close());
const cursors = createCursors(config.CURSOR_KEY);
const users = createUsers({ database, changes, passwords, factors, letters, cursors, tokenSeconds, now });
const teams = createTeams({ database, changes, cursors });
startHousekeeping({ database, settings, idleSeconds: config.SESSION_IDLE_SECONDS, log, lifetime });

const verifier = createVerifier({ keys: keys.resolve, issuer, audience, isRevoked: revocations.isRevoked });
const description = "Accounts, sign-in, sessions and the keys of access tokens.";
const rest = createRestApp({ service, title: "Auth", description, log, lifetime, verifier });
const originOf = createOrigins(config.GATEWAY_NETWORKS);
registerRest(rest, { sessions, tokens, keys, clients, revocationSnapshot, issuer, originOf });
registerAccounts(rest, { accounts, sessions, originOf });
registerFactors(rest, { accounts, originOf });
registerUsers(rest, { users, sessions, originOf });
registerTeams(rest, { teams, originOf });
await listenHttp({ app: rest.app, host: config.HOST, port: config.PORT, log, lifetime });

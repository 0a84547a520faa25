/** Auth: everything it is made of, in the order in which it is built; closed in the reverse one. */
import { startAuditSealer } from "@pm/kit/audit/audit";
import { followRevocations } from "@pm/kit/auth/revocations";
import { createVerifier } from "@pm/kit/auth/verifier";
import { readEnvironment } from "@pm/kit/config";
import { createCursors } from "@pm/kit/cursor";
import { createRestApp } from "@pm/kit/http/rest";
import { listenHttp } from "@pm/kit/http/server";
import { createKafka, createSender, kafkaSettings } from "@pm/kit/kafka/client";
import { startRelay } from "@pm/kit/kafka/outbox";
import { createLifecycle } from "@pm/kit/lifecycle";
import { createLogger } from "@pm/kit/log";
import { databaseSettings, openDatabase } from "@pm/kit/postgres/database";
import { createAccounts } from "./account/account.ts";
import { registerAccounts } from "./account/rest.ts";
import { registerFactors } from "./account/second-factor-rest.ts";
import { startWithAdmin } from "./admin/first-admin.ts";
import { createTeams } from "./admin/teams.ts";
import { registerTeams } from "./admin/teams-rest.ts";
import { createUsers } from "./admin/users.ts";
import { registerUsers } from "./admin/users-rest.ts";
import { startHousekeeping } from "./cleanup.ts";
import { createOrigins } from "./client-address.ts";
import { authConfig } from "./config.ts";
import { createMailer } from "./mail/mailer.ts";
import { createLetters } from "./mail/messages.ts";
import { createPasswords, hashesAtOnce } from "./passwords/hashing.ts";
import { createSealer } from "./seal.ts";
import { registerRest } from "./sessions/rest.ts";
import { createRevocationSnapshot } from "./sessions/revocations.ts";
import { createSessions } from "./sessions/sessions.ts";
import { selectAccount } from "./sessions/store.ts";
import { createThrottle } from "./sessions/throttle.ts";
import type { AuthTables } from "./tables.ts";
import { createServiceClients, createTokens } from "./tokens/access-tokens.ts";
import { createSigningKeys, startKeyMaintenance } from "./tokens/signing-keys.ts";
import { createChanges } from "./unit-of-work.ts";
import { createFactors } from "./users/second-factor.ts";

const config = readEnvironment(authConfig);
const service = "auth";
const now = Date.now;
const log = createLogger(service, config.LOG_LEVEL);
const lifecycle = createLifecycle({ log, drainMs: config.SHUTDOWN_DRAIN_MS, graceMs: config.SHUTDOWN_GRACE_MS });
const settings = databaseSettings(config);
const database = openDatabase<AuthTables>({ settings, poolSize: config.DATABASE_POOL_SIZE, applicationName: service, log, lifecycle });
const kafka = createKafka(kafkaSettings(service, config), log);

const { AUTH_ISSUER: issuer, AUTH_AUDIENCE: audience, ACCESS_TOKEN_SECONDS: tokenSeconds, KEY_ENCRYPTION_KEY: secret } = config;
const revocationSnapshot = createRevocationSnapshot({ database, tokenSeconds, now });
const revocations = followRevocations({ service, kafka, fetchSnapshot: revocationSnapshot, log, lifecycle });
const relay = startRelay({ database, settings, sender: createSender(kafka), service, lingerMs: 25, log, lifecycle });
startAuditSealer({ database, settings, log, lifecycle });
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
startKeyMaintenance(keys, { log, lifecycle });
const passwords = await createPasswords({ concurrency: hashesAtOnce, maxQueue: config.PASSWORD_QUEUE });
startWithAdmin({ database, changes, passwords, email: config.ADMIN_EMAIL, password: config.ADMIN_PASSWORD, log, lifecycle });

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
lifecycle.onClose("mail", () => mailer.close());
const letters = createLetters(mailer, config.LINK_BASE_URL ?? issuer);
const accounts = createAccounts({
  ...{ database, changes, passwords, sessions, throttle, factors, letters, signup: config.SIGNUP },
  onError: (error) => log.error({ err: error }, "what was to be done after an answer failed"),
});
lifecycle.onClose("accounts", () => accounts.close());
const cursors = createCursors(config.CURSOR_KEY);
const users = createUsers({ database, changes, passwords, factors, letters, cursors, tokenSeconds, now });
const teams = createTeams({ database, changes, cursors });
startHousekeeping({ database, settings, idleSeconds: config.SESSION_IDLE_SECONDS, log, lifecycle });

const verifier = createVerifier({ keys: keys.resolve, issuer, audience, revocations });
const description = "Accounts, sign-in, sessions and the keys of access tokens.";
const rest = createRestApp({ service, title: "Auth", description, log, lifecycle, verifier });
const originOf = createOrigins(config.GATEWAY_NETWORKS);
registerRest(rest, { sessions, tokens, keys, clients, revocationSnapshot, issuer, originOf });
registerAccounts(rest, { accounts, sessions, originOf });
registerFactors(rest, { accounts, originOf });
registerUsers(rest, { users, sessions, originOf });
registerTeams(rest, { teams, originOf });
await listenHttp({ app: rest.app, host: config.HOST, port: config.PORT, log, lifecycle });

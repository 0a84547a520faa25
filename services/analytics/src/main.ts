import { startSealer } from "@pm/kit/audit";
import { createServiceTokens, createVerifier } from "@pm/kit/auth";
import { startGroupConsumer } from "@pm/kit/consumer";
import { databaseSettings, openDatabase } from "@pm/kit/db";
import { createKafka, createSender, kafkaSettings } from "@pm/kit/kafka";
import { createLifetime } from "@pm/kit/lifetime";
import { createLogger } from "@pm/kit/log";
import { startRelay } from "@pm/kit/outbox";
import { listenHttp } from "@pm/kit/rest";
import { followRevocations, snapshotFromAuth } from "@pm/kit/revocations";
import { readConfig } from "./config.ts";
import { applyEvents } from "./ingest.ts";
import { createReports } from "./reports.ts";
import { createRest } from "./rest.ts";
import { streams } from "./schema.ts";
import type { Tables } from "./store.ts";

const config = readConfig();
const log = createLogger("analytics", config.LOG_LEVEL);
const lifetime = createLifetime({ log, drainMs: config.SHUTDOWN_DRAIN_MS, graceMs: config.SHUTDOWN_GRACE_MS });
const settings = databaseSettings(config);
const database = openDatabase<Tables>({ settings, poolSize: config.DATABASE_POOL_SIZE, applicationName: "analytics", log, lifetime });
const kafka = createKafka(kafkaSettings("analytics", config), log);
const serviceToken = createServiceTokens({ authUrl: config.AUTH_URL, clientId: "analytics", clientSecret: config.CLIENT_SECRET });
const fetchSnapshot = snapshotFromAuth({ authUrl: config.AUTH_URL, serviceToken });
const { isRevoked } = followRevocations({ service: "analytics", kafka, fetchSnapshot, log, lifetime });
const verifier = createVerifier({ authUrl: config.AUTH_URL, issuer: config.AUTH_ISSUER, audience: config.AUTH_AUDIENCE, isRevoked });

const reports = createReports({ database, now: Date.now });
const { app } = createRest({ reports, log, lifetime, verifier });
await listenHttp({ app, host: config.HOST, port: config.PORT, log, lifetime });

const relay = startRelay({ database, settings, sender: createSender(kafka), service: "analytics", log, lifetime });
startSealer({ database, settings, log, lifetime });
startGroupConsumer({ kafka, groupId: "analytics", topics: [...streams], database, apply: applyEvents, relay, log, lifetime });

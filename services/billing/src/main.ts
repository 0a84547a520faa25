/** Billing: everything it is made of, in the order in which it is built; closed in the reverse one. */
import { startSealer } from "@pm/kit/audit";
import { createVerifier } from "@pm/kit/auth";
import { databaseSettings, openDatabase } from "@pm/kit/db";
import { createKafka, createSender, kafkaSettings } from "@pm/kit/kafka";
import { createLifetime } from "@pm/kit/lifetime";
import { createLogger } from "@pm/kit/log";
import { startRelay } from "@pm/kit/outbox";
import { createRestApp } from "@pm/kit/rest";
import { createGuard, listenRpc } from "@pm/kit/rpc";
import { BillingService } from "@pm/proto/billing/v1/billing";
import { createAccounts } from "./accounts.ts";
import { config } from "./config.ts";
import { registerBilling } from "./rpc.ts";
import type { Tables } from "./store.ts";

const service = "billing";
const log = createLogger(service, config.LOG_LEVEL);
const lifetime = createLifetime({ log, drainMs: config.SHUTDOWN_DRAIN_MS, graceMs: config.SHUTDOWN_GRACE_MS });
const settings = databaseSettings(config);
const database = openDatabase<Tables>({ settings, poolSize: config.DATABASE_POOL_SIZE, applicationName: service, log, lifetime });
const kafka = createKafka(kafkaSettings(service, config), log);

const relay = startRelay({ database, settings, sender: createSender(kafka), service, log, lifetime });
const sealer = startSealer({ database, settings, log, lifetime });
const committed = () => {
  relay.wake();
  sealer.wake();
};

const verifier = createVerifier({
  authUrl: config.AUTH_URL,
  issuer: config.AUTH_ISSUER,
  audience: config.AUTH_AUDIENCE,
  isRevoked: () => false,
});
const accounts = createAccounts({ db: database, defaultCurrency: config.CURRENCY, now: () => new Date(), committed });

const rest = createRestApp({
  service,
  title: "Billing",
  description: "Pages of billing. Its methods are `billing.v1.BillingService`, by gRPC, gRPC-Web or Connect.",
  log,
  lifetime,
  verifier,
});
await listenRpc({
  routes: (router) => registerBilling(router, { accounts }),
  services: [BillingService],
  rest: rest.app,
  guard: createGuard({ log, verifier }),
  host: config.HOST,
  port: config.PORT,
  log,
  lifetime,
});

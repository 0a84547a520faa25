/** Postgres: one pool per process, with kysely for queries built from parts and named statements for the hot path. */
import { readFileSync } from "node:fs";
import { Kysely, PostgresDialect } from "kysely";
import { Client, type ClientConfig, Pool, type PoolConfig, types } from "pg";
import type { Lifecycle } from "../lifecycle.ts";
import type { Logger } from "../log.ts";
import { Gauge, metrics } from "../metrics.ts";
import { inStatement, recordStatement } from "./statement-spans.ts";

// int8 is read as bigint, which does not round, and date as "YYYY-MM-DD", because a Date depends on a time zone.
types.setTypeParser(types.builtins.INT8, BigInt);
types.setTypeParser(types.builtins.DATE, (value) => value);

export type DatabaseSettings = {
  url: string;
  /** Read again for every connection, so that a rotated password takes effect. */
  passwordFile?: string | undefined;
  /** If set, TLS with verification of chain and host name (`verify-full`). Read again for every connection. */
  caFile?: string | undefined;
};

/** The settings from the variables of `databaseConfig`. */
export function databaseSettings(config: {
  DATABASE_URL: string;
  DATABASE_PASSWORD_FILE?: string | undefined;
  DATABASE_CA_FILE?: string | undefined;
}): DatabaseSettings {
  return { url: config.DATABASE_URL, passwordFile: config.DATABASE_PASSWORD_FILE, caFile: config.DATABASE_CA_FILE };
}

/** A service gives up early, so that a request is answered 503 and the work of a leader begins again. */
const ofService = { connectionTimeoutMillis: 3_000 };
/** How long a request waits for a connection while others use them all: less than the 15 s of the gateway. */
const waitMs = 10_000;

/** The settings of one connection, in a pool or outside. Commands wait up to 30 s for a busy server. */
export function connectionConfig({ url, passwordFile, caFile }: DatabaseSettings): ClientConfig {
  const { username, password, hostname, port, pathname } = new URL(url);
  const secret = passwordFile ? () => readFileSync(passwordFile, "utf8").trim() : decodeURIComponent(password);
  return {
    host: hostname,
    port: port ? Number(port) : 5432,
    user: decodeURIComponent(username),
    database: pathname.slice(1),
    password: secret,
    ...(caFile && {
      // A getter, because pg reads its settings once per pool while the file may be replaced.
      ssl: {
        rejectUnauthorized: true,
        get ca() {
          return readFileSync(caFile, "utf8");
        },
      },
    }),
    keepAlive: true,
    connectionTimeoutMillis: 30_000,
    // Postgres compiles plans that it expects to be expensive, such as searches among five million patients. That takes
    // longer than the statements do.
    options: "-c jit=off",
  };
}

export type Database<Tables> = {
  /** For queries that are built from parts. */
  readonly kysely: Kysely<Tables>;
  readonly pool: Pool;
  /**
   * Runs a named (prepared) statement, for the hot path: three times as fast as an unnamed one. Values are bound, never
   * inserted into the text.
   */
  query<Row>(statement: Statement, values: unknown[]): Promise<Row[]>;
};

/** A statement that is prepared once per connection under its name. */
export type Statement = { name: string; text: string };

/** The pools of this process by the name of their application: only tests have more than one. */
const pools = new Map<string, Pool>();
const labelNames = ["db_client_connection_pool_name"];
new Gauge({
  name: "db_client_connection_count",
  help: "Connections to Postgres by what they do",
  labelNames: [...labelNames, "db_client_connection_state"],
  registers: [metrics],
  collect() {
    for (const [name, { totalCount, idleCount }] of pools)
      for (const [state, count] of Object.entries({ idle: idleCount, used: totalCount - idleCount }))
        this.set({ db_client_connection_pool_name: name, db_client_connection_state: state }, count);
  },
});
/**
 * A pool queues every statement for a moment, those that this scrape sends too. One that finds an idle connection, or
 * room for a new one, does not wait for any other.
 */
const waitingIn = ({ waitingCount, idleCount, totalCount, options: { max } }: Pool) =>
  Math.max(0, waitingCount - idleCount - (max - totalCount));
const limits = {
  max: "Connections that a pool may have",
  pending_requests: "Statements that wait until another gives its connection back",
};
for (const [kind, help] of Object.entries(limits))
  new Gauge({
    name: `db_client_connection_${kind}`,
    help,
    labelNames,
    registers: [metrics],
    collect() {
      for (const [name, pool] of pools)
        this.set({ db_client_connection_pool_name: name }, kind === "max" ? pool.options.max : waitingIn(pool));
    },
  });

/** How long an answer of the database proves that it is available. */
const answerHoldsMs = 1_000;

/** Opens the pool. It connects at its first use, so that a service can start while Postgres is down. */
export function openDatabase<Tables>(options: {
  settings: DatabaseSettings;
  poolSize: number;
  applicationName: string;
  log: Logger;
  lifecycle?: Lifecycle;
}): Database<Tables> {
  const { settings, poolSize, applicationName, log, lifecycle } = options;
  const config: PoolConfig = {
    ...connectionConfig(settings),
    application_name: applicationName,
    // A query that takes longer is a mistake or waits for a lock: answer 503 and free the connection.
    statement_timeout: 15_000,
    idle_in_transaction_session_timeout: 30_000,
  };
  // The pool's limit is for a free connection. A new one has a shorter limit, which its client sets.
  class ServiceClient extends Client {
    constructor() {
      super({ ...config, ...ofService });
    }
  }
  const pool = new Pool({ ...config, Client: ServiceClient, max: poolSize, connectionTimeoutMillis: waitMs });
  // Without a listener, a restart of Postgres would end the process by an error of an idle connection.
  pool.on("error", (error) => log.warn({ err: error }, "an idle database connection was lost"));
  pools.set(applicationName, pool);
  const kysely = new Kysely<Tables>({ dialect: new PostgresDialect({ pool }), log: recordStatement });
  lifecycle?.onClose("database", () => kysely.destroy());
  // A connection that is released without an error has just had an answer. Under load, the probe need not wait for one.
  let answeredAt = Number.NEGATIVE_INFINITY;
  pool.on("release", (error) => {
    if (!error) answeredAt = performance.now();
  });
  lifecycle?.onReady("database", async () => {
    if (performance.now() - answeredAt > answerHoldsMs) await pool.query("select 1");
    return true;
  });
  return {
    kysely,
    pool,
    async query<Row>(statement: Statement, values: unknown[]) {
      const result = await inStatement(statement.name, () => pool.query({ name: statement.name, text: statement.text, values }));
      return result.rows as Row[];
    },
  };
}

/** The name of the constraint that an error reports as violated; undefined for every other error. */
export function violatedConstraint(error: unknown): string | undefined {
  if (error instanceof Error && "code" in error && "constraint" in error && String(error.code).startsWith("23"))
    return String(error.constraint);
  return undefined;
}

/** A connection outside the pool, for long uses such as the lock of a leader. The caller closes it. */
export async function connectClient(settings: DatabaseSettings, applicationName: string): Promise<Client> {
  const client = new Client({ ...connectionConfig(settings), ...ofService, application_name: applicationName });
  await client.connect();
  return client;
}

/**
 * Baselines: what the machine, Postgres, Envoy and argon2 do without our code. An aim is a multiple of one of them, so
 * that it means the same on a fast and on a slow machine. Nothing here may get slower because our services do.
 */
import { generateKeyPairSync, randomUUID } from "node:crypto";
import { hash, verify } from "@node-rs/argon2";
import { createLogger } from "@pm/kit/log";
import { openDatabase } from "@pm/kit/postgres/database";
import type { Platform } from "@pm/stack/platform";
import { jwtVerify, SignJWT } from "jose";
import { from as copyFrom } from "pg-copy-streams";
import { Pool } from "undici";
import { argon2Options, createPasswords, hashesAtOnce } from "../../services/auth/src/passwords/hashing.ts";
import type { Work } from "./measure.ts";

/** As long as the record of a patient. */
const text = "x".repeat(400);
const copiedRows = 5_000;
const signatures = 100;

export type Baselines = {
  /** One row inserted and committed, by a prepared statement and a pool of ten. */
  insert: Work;
  /** Rows copied in and committed. */
  copy: Work;
  /** A query that only computes. */
  query: Work;
  /** An answer that Envoy gives by itself. */
  envoy: Work;
  /** A password checked by argon2id, with auth's parameters and as many at a time as auth checks. */
  argon2: Work;
  /** An ES256 signature checked. */
  signature: Work;
};

export function createBaselines({ postgres, gatewayUrl }: Platform): Baselines {
  let opened: Promise<Awaited<ReturnType<typeof openBench>>> | undefined;
  const openBench = async () => {
    const { migrationDatabaseUrl: url } = await postgres.createDatabase("bench");
    const log = createLogger("bench", "silent");
    const db = openDatabase<Record<string, never>>({ settings: { url }, poolSize: 10, applicationName: "bench", log });
    await db.pool.query("create table if not exists rows (id uuid primary key, at timestamptz not null, text text not null)");
    return db;
  };
  const bench = () => {
    opened ??= openBench();
    return opened;
  };
  const prepare = async () => void (await (await bench()).pool.query("truncate rows"));
  const insert = { name: "bench_insert", text: "insert into rows (id, at, text) values ($1, $2, $3)" };
  const query = { name: "bench_query", text: "select sum(number % 7) as sum from generate_series(1, 50000) as number" };
  const gateway = new Pool(gatewayUrl, { connections: 16, pipelining: 1 });
  return {
    insert: {
      name: "a bare insert",
      prepare,
      request: async () => (await bench()).query(insert, [randomUUID(), new Date(), text]),
    },
    copy: {
      name: `bare copies of ${copiedRows} rows`,
      things: copiedRows,
      prepare,
      request: async () => copyRows(await bench()),
    },
    query: {
      name: "a bare query that adds up 50,000 numbers",
      prepare,
      request: async () => (await bench()).query(query, []),
    },
    envoy: {
      name: "an answer of Envoy's own",
      async request() {
        const { statusCode, body } = await gateway.request({ method: "GET", path: "/nothing-here" });
        await body.dump();
        if (statusCode !== 404) throw new Error(`Envoy answered ${statusCode}`);
      },
    },
    ...withoutServers(),
  };
}

async function copyRows({ pool }: { pool: { connect(): Promise<import("pg").PoolClient> } }): Promise<void> {
  const client = await pool.connect();
  try {
    const lines = Array.from({ length: copiedRows }, () => `${randomUUID()}\t2026-01-01\t${text}\n`);
    const sink = client.query(copyFrom("copy rows (id, at, text) from stdin"));
    await new Promise<void>((resolve, reject) => sink.on("error", reject).on("finish", resolve).end(lines.join("")));
  } finally {
    client.release();
  }
}

/** These run in this process. */
function withoutServers(): Pick<Baselines, "argon2" | "signature"> {
  const { publicKey, privateKey } = generateKeyPairSync("ec", { namedCurve: "P-256" });
  let stored = "";
  let token = "";
  return {
    argon2: {
      name: "argon2id alone",
      concurrency: hashesAtOnce,
      async prepare() {
        // Auth lowers the priority of its hashing threads. Do so here, or a busy machine would favour the baseline.
        await createPasswords({ concurrency: hashesAtOnce, maxQueue: 0 });
        stored = await hash("a password", argon2Options);
      },
      request: () => verify(stored, "another password"),
    },
    signature: {
      name: "checks of a signature",
      things: signatures,
      async prepare() {
        token = await new SignJWT({ sub: "bench" }).setProtectedHeader({ alg: "ES256" }).setExpirationTime("1h").sign(privateKey);
      },
      async request() {
        for (let i = 0; i < signatures; i++) await jwtVerify(token, publicKey);
      },
    },
  };
}

/** Transactions. If concurrent transactions conflict, the work is done again, a bounded number of times. */
import { setTimeout as delay } from "node:timers/promises";
import { Kysely, PostgresDialect } from "kysely";
import type { ClientBase, Pool, PoolClient } from "pg";
import { AppError } from "../errors.ts";
import type { Database, Statement } from "./database.ts";
import { inStatement, recordStatement } from "./statement-spans.ts";

/** Runs named statements: the pool, one transaction, or one connection. */
export type Queries = Pick<Database<unknown>, "query">;

/** Named statements on one connection, such as that of a leader. */
export function queriesOn(client: ClientBase): Queries {
  return {
    async query<Row>(statement: Statement, values: unknown[]) {
      const result = await inStatement(statement.name, () => client.query({ name: statement.name, text: statement.text, values }));
      return result.rows as Row[];
    },
  };
}

/** An open transaction, with the two ways of `Database` to run statements. */
export type Transaction<Tables> = Pick<Database<Tables>, "kysely" | "query">;

type Retries = {
  /** How often the work is tried at most; 3 by default. */
  tries?: number;
  /** Errors that are conflicts besides deadlocks and serialization failures, such as a lost race for a unique key. */
  isConflict?: (error: unknown) => boolean;
};

type Options = Retries & {
  /**
   * What the work locks, such as an id. Transactions of this process with the same one follow each other. If each
   * waited for the lock in the database, each would hold a connection, and a busy row would take them all.
   */
  turn?: string;
};

/**
 * Runs `work` in one transaction. After a conflict, `work` runs again from its beginning, so it must have no effect
 * outside the transaction.
 * @throws AppError aborted if there was a conflict each time
 */
export function inTransaction<Tables, Result>(
  db: Database<Tables>,
  work: (tx: Transaction<Tables>) => Promise<Result>,
  { turn, ...retries }: Options = {},
): Promise<Result> {
  const run = () => retryConflicts(() => tryTransaction(db, work), retries);
  return turn === undefined ? run() : inTurn(db.pool, turn, run);
}

/** How long work waits for its turn. The gateway answers after 15 seconds. */
const maxWaitMs = 10_000;

/** The last work of every turn, by pool. */
const turns = new WeakMap<Pool, Map<string, Promise<unknown>>>();

async function inTurn<Result>(pool: Pool, turn: string, work: () => Promise<Result>): Promise<Result> {
  const last = turns.get(pool) ?? new Map<string, Promise<unknown>>();
  turns.set(pool, last);
  const deadline = performance.now() + maxWaitMs;
  // Nothing is done for a caller who has given up.
  const inTime = () => {
    if (performance.now() < deadline) return work();
    throw new AppError("unavailable", "Too many requests wait for the same record. Try again shortly.", { retryAfterSeconds: 1 });
  };
  const own = (last.get(turn) ?? Promise.resolve()).then(inTime, inTime);
  last.set(turn, own);
  try {
    return await own;
  } finally {
    if (last.get(turn) === own) last.delete(turn);
  }
}

async function tryTransaction<Tables, Result>(db: Database<Tables>, work: (tx: Transaction<Tables>) => Promise<Result>): Promise<Result> {
  const client = await db.pool.connect();
  let broken: Error | undefined;
  // Without a listener, a connection that breaks meanwhile would end the process.
  const noteBroken = (error: Error) => {
    broken = error;
  };
  client.on("error", noteBroken);
  try {
    await client.query("begin");
    const result = await work(createTransaction(client));
    await client.query("commit");
    return result;
  } catch (error) {
    // A connection that cannot even roll back is not used again.
    await client.query("rollback").catch(noteBroken);
    throw error;
  } finally {
    client.off("error", noteBroken);
    client.release(broken);
  }
}

function createTransaction<Tables>(client: PoolClient): Transaction<Tables> {
  let kysely: Kysely<Tables> | undefined;
  return {
    /** Created when it is first used: many transactions consist of named statements only. */
    get kysely() {
      // The connection goes back to the pool when the transaction ends, not after each query.
      const connection = { query: client.query.bind(client), release: () => undefined };
      const pool = { connect: async () => connection, end: async () => undefined };
      kysely ??= new Kysely<Tables>({ dialect: new PostgresDialect({ pool: pool as never }), log: recordStatement });
      return kysely;
    },
    ...queriesOn(client),
  };
}

/**
 * Runs work that is one transaction, such as a single statement, again after a conflict.
 * @throws AppError aborted if there was a conflict each time
 */
export async function retryConflicts<Result>(work: () => Promise<Result>, { tries = 3, isConflict }: Retries = {}): Promise<Result> {
  for (let attempt = 1; ; attempt++) {
    try {
      return await work();
    } catch (error) {
      if (!isDeadlockOrSerializationFailure(error) && !isConflict?.(error)) throw error;
      if (attempt >= tries)
        throw new AppError("aborted", "Too many changes at once. Try again.", {
          reason: "TOO_MANY_CONFLICTS",
          retryAfterSeconds: 1,
          cause: error,
        });
      await delay(Math.random() * 5 * 2 ** attempt);
    }
  }
}

function isDeadlockOrSerializationFailure(error: unknown): boolean {
  return error instanceof Error && "code" in error && (error.code === "40P01" || error.code === "40001");
}

/**
 * The stream of an account. It is woken in this process by a commit, and by other replicas' commits through one query a
 * second for all accounts that are watched here: no notification in any transaction, and nothing that depends on Kafka.
 *
 * What a caller gets depends only on the ledger and on its own `position`, so a stream that broke is continued by another
 * replica, or by the same one after a restart, as if nothing had happened.
 */
import { create } from "@bufbuild/protobuf";
import { AppError } from "@pm/kit/errors";
import type { Logger } from "@pm/kit/log";
import type { Statement } from "@pm/kit/postgres/database";
import { type WatchAccountResponse, WatchAccountResponseSchema } from "@pm/proto/billing/v1/billing";
import { accountNotFound } from "../accounts/accounts.ts";
import { type BillingDatabase, findAccount } from "../accounts/store.ts";
import { transactionsSince } from "./history-store.ts";
import { toAccount, toTransaction } from "./messages.ts";

export type WatchRequest = {
  accountId: string;
  /** The sequence number of the last transaction that the caller has; undefined where only new ones are wanted. */
  position: bigint | undefined;
  /** Throws when the caller may no longer see the account. Asked every second. */
  stillAllowed: () => Promise<unknown>;
  /** The caller went away. */
  signal: AbortSignal;
};

export type Watch = {
  account(request: WatchRequest): AsyncGenerator<WatchAccountResponse>;
  /** Says that accounts have changed. */
  changed(accountIds: string[]): void;
  /** Ends all streams, so that their callers go on elsewhere. */
  close(): void;
};

const maxTransactions = 500;
const lookMs = 1_000;
const quietMs = 30_000;

type Watcher = { accountId: string; seenVersion: bigint; isStale: boolean; wake: () => void };

const versionsStatement: Statement = { name: "account_versions", text: "select id, version from accounts where id = any($1::uuid[])" };

export function createWatch(options: { db: BillingDatabase; log: Logger }): Watch {
  const { db, log } = options;
  const watchers = new Set<Watcher>();
  let isClosed = false;
  let isLooking = false;

  const timer = setInterval(() => void look(), lookMs);
  timer.unref();

  /** Finds accounts that another replica has changed. */
  async function look(): Promise<void> {
    if (watchers.size === 0 || isLooking) return;
    isLooking = true;
    try {
      const ids = [...new Set([...watchers].map((watcher) => watcher.accountId))];
      const versions = new Map(
        (await db.query<{ id: string; version: bigint }>(versionsStatement, [ids])).map((row) => [row.id, row.version]),
      );
      for (const watcher of watchers) if (versions.get(watcher.accountId) !== watcher.seenVersion) markStale(watcher);
    } catch (error) {
      log.debug({ err: error }, "watched accounts could not be looked at");
    } finally {
      isLooking = false;
    }
  }

  function markStale(watcher: Watcher): void {
    watcher.isStale = true;
    watcher.wake();
  }

  function wait(watcher: Watcher, signal: AbortSignal): Promise<void> {
    return new Promise((resolve) => {
      const done = () => {
        clearTimeout(limit);
        signal.removeEventListener("abort", done);
        resolve();
      };
      const limit = setTimeout(done, lookMs);
      watcher.wake = done;
      signal.addEventListener("abort", done);
      if (watcher.isStale || isClosed || signal.aborted) done();
    });
  }

  async function* stream({ accountId, position: given, stillAllowed, signal }: WatchRequest): AsyncGenerator<WatchAccountResponse> {
    const watcher: Watcher = { accountId: accountId.toLowerCase(), seenVersion: 0n, isStale: true, wake: () => undefined };
    watchers.add(watcher);
    let position = given;
    let toldAt = 0;
    try {
      while (!signal.aborted) {
        if (isClosed) throw goElsewhere();
        await stillAllowed();
        if (!watcher.isStale && Date.now() - toldAt < quietMs) {
          await wait(watcher, signal);
          continue;
        }
        watcher.isStale = false;
        const rows = position === undefined ? [] : await transactionsSince(db, watcher.accountId, position, maxTransactions);
        const account = await findAccount(db, { accountId: watcher.accountId });
        if (!account) throw accountNotFound();
        if (position !== undefined && position > account.transaction_count) throw positionAhead();
        const hasNews = account.version !== watcher.seenVersion || rows.length > 0;
        position = rows.at(-1)?.sequence ?? position ?? account.transaction_count;
        watcher.seenVersion = account.version;
        // More than fits, or posted between the two questions.
        watcher.isStale ||= account.transaction_count > position;
        if (!hasNews && Date.now() - toldAt < quietMs) continue;
        yield create(WatchAccountResponseSchema, {
          account: toAccount(account),
          transactions: rows.map((row) => toTransaction(row, account.currency)),
          position,
        });
        toldAt = Date.now();
      }
    } finally {
      watchers.delete(watcher);
    }
  }

  return {
    account: stream,
    changed(accountIds) {
      if (watchers.size === 0) return;
      const ids = new Set(accountIds);
      for (const watcher of watchers) if (ids.has(watcher.accountId)) markStale(watcher);
    },
    close() {
      isClosed = true;
      clearInterval(timer);
      for (const watcher of watchers) watcher.wake();
    },
  };
}

function goElsewhere(): AppError {
  const message = "The service shuts down. Call again with the last position.";
  return new AppError("unavailable", message, { reason: "SHUTTING_DOWN", retryAfterSeconds: 1 });
}

function positionAhead(): AppError {
  const message = "position: is higher than the number of transactions. Use the position of the last message that you got.";
  return new AppError("invalid_argument", message, {
    errors: [{ path: "position", message: "is higher than the number of transactions" }],
  });
}

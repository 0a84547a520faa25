/**
 * The stream of an account. A commit in this process wakes it; for the commits of other replicas, one query per second
 * asks for the versions of all accounts that are watched here. So no transaction notifies, and Kafka is not needed.
 *
 * What a caller gets depends only on the ledger and on their `position`. After a break, another replica, or the same
 * one after a restart, continues the stream without a gap.
 */
import { create } from "@bufbuild/protobuf";
import { AppError } from "@pm/kit/errors";
import type { Logger } from "@pm/kit/log";
import { partsOfSize } from "@pm/kit/parts";
import { TransactionSchema, type WatchAccountResponse, WatchAccountResponseSchema } from "@pm/proto/billing/v1/billing";
import { accountNotFound } from "../accounts/accounts.ts";
import { toAccount } from "../accounts/messages.ts";
import { findAccount, versionsOf } from "../accounts/store.ts";
import { bytesOf, maxAnswerBytes } from "../paging.ts";
import type { BillingDatabase } from "../tables.ts";
import { transactionsSince } from "./history-store.ts";
import { toTransaction } from "./messages.ts";

type WatchRequest = {
  accountId: string;
  /** The sequence number of the last transaction that the caller has; undefined if they only want new ones. */
  position: bigint | undefined;
  /** Throws if the caller may no longer see the account. It is called every second. */
  stillAllowed: () => Promise<unknown>;
  /** Aborted when the caller goes away. */
  signal: AbortSignal;
};

export type Watch = {
  account(request: WatchRequest): AsyncGenerator<WatchAccountResponse>;
  /** Wakes the streams of accounts that have changed. */
  changed(accountIds: string[]): void;
  /** Ends all streams, so that their callers continue at another replica. */
  close(): void;
};

const maxTransactions = 500;
const pollMs = 1_000;
/** After this time without a change, the account is sent again, to show that the stream is alive. */
const quietMs = 30_000;

type Watcher = {
  accountId: string;
  /** The version of the account that was last sent. */
  seenVersion: bigint;
  /** Whether the account may have changed since it was last read. */
  isStale: boolean;
  isClosed: boolean;
  wake: () => void;
};

export function createWatch({ db, log }: { db: BillingDatabase; log: Logger }): Watch {
  const watchers = new Set<Watcher>();
  let isClosed = false;
  let isPolling = false;

  const timer = setInterval(() => void poll(), pollMs);
  timer.unref();

  /** Finds accounts that another replica has changed. */
  async function poll(): Promise<void> {
    if (watchers.size === 0 || isPolling) return;
    isPolling = true;
    try {
      const versions = await versionsOf(db, [...new Set([...watchers].map((watcher) => watcher.accountId))]);
      for (const watcher of watchers) if (versions.get(watcher.accountId) !== watcher.seenVersion) markStale(watcher);
    } catch (error) {
      log.debug({ err: error }, "the versions of watched accounts could not be read");
    } finally {
      isPolling = false;
    }
  }

  return {
    async *account(request) {
      const accountId = request.accountId.toLowerCase();
      const watcher: Watcher = { accountId, seenVersion: 0n, isStale: true, isClosed, wake: () => undefined };
      watchers.add(watcher);
      try {
        yield* stream(db, watcher, request);
      } finally {
        watchers.delete(watcher);
      }
    },
    changed(accountIds) {
      if (watchers.size === 0) return;
      const ids = new Set(accountIds);
      for (const watcher of watchers) if (ids.has(watcher.accountId)) markStale(watcher);
    },
    close() {
      isClosed = true;
      clearInterval(timer);
      for (const watcher of watchers) {
        watcher.isClosed = true;
        watcher.wake();
      }
    },
  };
}

function markStale(watcher: Watcher): void {
  watcher.isStale = true;
  watcher.wake();
}

async function* stream(
  db: BillingDatabase,
  watcher: Watcher,
  { position: given, stillAllowed, signal }: WatchRequest,
): AsyncGenerator<WatchAccountResponse> {
  const { accountId } = watcher;
  let position = given;
  let sentAt = 0;
  while (!signal.aborted) {
    if (watcher.isClosed) throw shuttingDown();
    await stillAllowed();
    if (!watcher.isStale && Date.now() - sentAt < quietMs) {
      await waitForChange(watcher, signal);
      continue;
    }
    watcher.isStale = false;
    const rows = position === undefined ? [] : await transactionsSince(db, accountId, position, maxTransactions);
    const account = await findAccount(db, { accountId });
    if (!account) throw accountNotFound();
    const unsent = rows.map((row) => toTransaction(row, account.currency));
    const [transactions = []] = partsOfSize(unsent, maxAnswerBytes, (each) => bytesOf(TransactionSchema, each));
    if (position !== undefined && position > account.transaction_count) throw positionAhead();
    const hasNews = account.version !== watcher.seenVersion || transactions.length > 0;
    position = transactions.at(-1)?.sequence ?? position ?? account.transaction_count;
    watcher.seenVersion = account.version;
    // There are more than fit into a message, or one was posted between the two queries.
    watcher.isStale ||= account.transaction_count > position;
    if (!hasNews && Date.now() - sentAt < quietMs) continue;
    yield create(WatchAccountResponseSchema, {
      account: toAccount(account),
      transactions,
      position,
    });
    sentAt = Date.now();
  }
}

/** Waits until the watcher is woken or the caller goes, but at most until the caller's rights are to be checked. */
function waitForChange(watcher: Watcher, signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    const done = () => {
      clearTimeout(limit);
      signal.removeEventListener("abort", done);
      resolve();
    };
    const limit = setTimeout(done, pollMs);
    watcher.wake = done;
    signal.addEventListener("abort", done);
    if (watcher.isStale || watcher.isClosed || signal.aborted) done();
  });
}

function shuttingDown(): AppError {
  const message = "The service shuts down. Call again with the last position.";
  return new AppError("unavailable", message, { reason: "SHUTTING_DOWN", retryAfterSeconds: 1 });
}

function positionAhead(): AppError {
  const message = "position: is higher than the number of transactions. Use the position of the last message that you got.";
  return new AppError("invalid_argument", message, {
    errors: [{ path: "position", message: "is higher than the number of transactions" }],
  });
}

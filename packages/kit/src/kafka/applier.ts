/**
 * Applies events in database transactions: all that are waiting together, and if that fails in smaller and smaller
 * parts, until the events that cannot be applied are found. Those become dead letters.
 */
import { setTimeout as delay } from "node:timers/promises";
import { createBatcher } from "../batcher.ts";
import { toAppError } from "../errors.ts";
import type { Logger } from "../log.ts";
import { Counter, metrics } from "../metrics.ts";
import type { Database } from "../postgres/database.ts";
import type { Leader } from "../postgres/leader.ts";
import { inTransaction, type Transaction } from "../postgres/transaction.ts";
import { deadLetter, keysWithDeadLetters, lockGroup } from "./dead-letter-store.ts";
import { type Apply, type ConsumedEvent, reasonOf } from "./event.ts";

type Applier = {
  /**
   * Applies the events of one partition, in order, or makes them dead letters. Waits while the database is away.
   * @param throwIfStopped throws when this member has to leave its batch unfinished
   */
  apply(events: ConsumedEvent[], throwIfStopped: () => void): Promise<void>;
};

const retryMs = { first: 100, max: 5_000 };

const deadLettered = new Counter({
  name: "consumer_dead_letters_total",
  help: "Events that became dead letters",
  labelNames: ["group", "topic"],
  registers: [metrics],
});

/**
 * Whether the database is away or busy, so that the event is not to blame: by the SQLSTATE classes of connection,
 * rollback, resources, lock, operator and system.
 */
function isTransient(error: unknown): boolean {
  const { code } = toAppError(error);
  if (code === "unavailable" || code === "aborted") return true;
  const sqlState = error instanceof Error && "code" in error ? String(error.code) : "";
  return /^(08|40|53|55|57|58)...$|^25006$/.test(sqlState);
}

export function createApplier<Tables>(options: {
  groupId: string;
  db: Database<Tables>;
  apply: Apply<Tables>;
  /** Publishes dead letters. */
  relay: Leader;
  /** How many partitions share a transaction. */
  partitionsTogether: number;
  /** How often an event is tried by itself before it becomes a dead letter. */
  maxTries: number;
  log: Logger;
}): Applier {
  const { groupId, db, apply, relay, partitionsTogether, maxTries, log } = options;
  const retry = (work: () => Promise<void>, throwIfStopped: () => void) => retryWhileUnavailable(work, { throwIfStopped, groupId, log });

  async function applyTogether(events: ConsumedEvent[]): Promise<void> {
    noteDeadLetters(await inTransaction(db, (tx) => applyIn(tx, { groupId, events, apply })));
  }

  // A transaction costs about as much for one event as for a hundred, so waiting events of all partitions share one.
  const applications = createBatcher<ConsumedEvent[], void>({
    name: "applied_events",
    maxSize: partitionsTogether,
    async run(batches) {
      await applyTogether(batches.flat());
      return batches.map(() => undefined);
    },
  });

  /** Halves the events until it finds those that cannot be applied, so that a bad event costs few transactions. */
  async function applyApart(events: ConsumedEvent[], throwIfStopped: () => void): Promise<void> {
    const [first] = events;
    if (first && events.length === 1) return applyAlone(first, throwIfStopped);
    try {
      await retry(() => applyTogether(events), throwIfStopped);
    } catch {
      throwIfStopped();
      const middle = Math.ceil(events.length / 2);
      await applyApart(events.slice(0, middle), throwIfStopped);
      await applyApart(events.slice(middle), throwIfStopped);
    }
  }

  async function applyAlone(event: ConsumedEvent, throwIfStopped: () => void): Promise<void> {
    for (let tries = 1; ; tries++) {
      try {
        await retry(() => applyTogether([event]), throwIfStopped);
        return;
      } catch (error) {
        throwIfStopped();
        if (tries < maxTries && event.broken === undefined) {
          await delay(retryMs.first * tries);
          continue;
        }
        const reason = reasonOf(error);
        log.error({ topic: event.topic, eventId: event.id, type: event.type, tries, reason }, "an event became a dead letter");
        const store = () =>
          inTransaction(db, async (tx) => {
            await lockGroup(tx.kysely, groupId);
            await deadLetter(tx, { groupId, event, reason, tries });
          });
        await retry(store, throwIfStopped);
        noteDeadLetters([event]);
        return;
      }
    }
  }

  function noteDeadLetters(events: ConsumedEvent[]): void {
    for (const event of events) deadLettered.inc({ group: groupId, topic: event.topic });
    if (events.length > 0) relay.wake();
  }

  return {
    async apply(events, throwIfStopped) {
      try {
        await retry(() => applications.add(events), throwIfStopped);
      } catch (error) {
        throwIfStopped();
        const about = { reason: reasonOf(error), topic: events[0]?.topic, events: events.length };
        log.warn(about, "a batch cannot be applied as a whole; trying parts of it");
        await applyApart(events, throwIfStopped);
      }
    },
  };
}

/** Applies events, except those of keys that have a dead letter: these follow it, and are returned. */
async function applyIn<Tables>(
  tx: Transaction<Tables>,
  { groupId, events, apply }: { groupId: string; events: ConsumedEvent[]; apply: Apply<Tables> },
): Promise<ConsumedEvent[]> {
  await lockGroup(tx.kysely, groupId);
  const blocked = await keysWithDeadLetters(tx.kysely, groupId, events);
  const isBlocked = (event: ConsumedEvent) => blocked.has(`${event.topic}/${event.key}`);
  const free = events.filter((event) => !isBlocked(event));
  const broken = free.find((event) => event.broken !== undefined);
  if (broken) throw new Error(broken.broken);
  if (free.length > 0) await apply(free, tx.kysely);
  const followers = events.filter(isBlocked);
  for (const event of followers) await deadLetter(tx, { groupId, event, reason: "follows a dead letter of its key", tries: 0 });
  return followers;
}

async function retryWhileUnavailable(
  work: () => Promise<void>,
  { throwIfStopped, groupId, log }: { throwIfStopped: () => void; groupId: string; log: Logger },
): Promise<void> {
  for (let failures = 0; ; failures++) {
    throwIfStopped();
    try {
      await work();
      if (failures > 0) log.info({ groupId, failures }, "events are applied again");
      return;
    } catch (error) {
      if (!isTransient(error)) throw error;
      if (failures === 0) log.warn({ err: error, groupId }, "events cannot be applied; trying again");
      await delay(Math.min(retryMs.first * 2 ** failures, retryMs.max));
    }
  }
}

/**
 * The operator's side of dead letters: events that could not be applied, stored in the consumer's database and
 * published on `<topic>.dead`. While an event of a key waits here, later events of that key join it; an operator
 * replays or discards them, first to last.
 */
import { AppError } from "../errors.ts";
import { showAsked } from "../metrics.ts";
import type { Database } from "../postgres/database.ts";
import { inTransaction, type Queries } from "../postgres/transaction.ts";
import {
  countWaiting,
  type DeadLetterFilter,
  type DeadLetterRow,
  type DeadLetterState,
  findDeadLetter,
  firstWaitingOf,
  listDeadLetters,
  lockGroup,
  noteFailure,
  settleDeadLetter,
  waitingKeys,
} from "./dead-letter-store.ts";
import { type Apply, type ConsumedEvent, reasonOf } from "./event.ts";

/** What an operator sees. `payload` only of a single letter. */
export type DeadLetter = {
  id: string;
  eventId: string;
  topic: string;
  partition: number;
  offset: string;
  key: string;
  type: string;
  eventTime: Date;
  reason: string;
  /** 0 if it only follows an earlier dead letter of its key. */
  tries: number;
  state: DeadLetterState;
  failedAt: Date;
  settledAt: Date | null;
};

export type DeadLetters = {
  list(filter: DeadLetterFilter): Promise<DeadLetter[]>;
  /** @throws AppError not_found */
  get(id: string): Promise<DeadLetter & { payload: Buffer }>;
  /**
   * Applies the waiting letters of this letter's key, in order, and returns how many. Stops where one fails again.
   * @throws AppError failed_precondition with the reason if one fails, not_found
   */
  replay(id: string): Promise<number>;
  /** Replays every key that waits, and returns how many letters were applied and how many still wait. */
  replayAll(topic?: string): Promise<{ replayed: number; waiting: number }>;
  /** How many wait. */
  waiting(): Promise<number>;
  /**
   * Gives up a letter, so that later ones can be replayed.
   * @param also what is done in the same transaction, such as an audit entry
   * @throws AppError not_found, failed_precondition if it does not wait
   */
  discard(id: string, also?: (tx: Queries) => Promise<void>): Promise<void>;
};

/** The groups of this process, each with the number of its waiting letters. */
const groups = new Map<string, () => Promise<number>>();
showAsked(
  () => Promise.all([...groups].map(async ([group, waiting]) => ({ labels: { group }, value: await waiting() }))),
  [
    {
      name: "consumer_dead_letters_waiting",
      help: "Dead letters that are neither replayed nor discarded",
      samples: (counts) => counts,
    },
  ],
);

export function createDeadLetters<Tables>(options: { db: Database<Tables>; groupId: string; apply: Apply<Tables> }): DeadLetters {
  const { db, groupId, apply } = options;
  const { kysely } = db;
  const waiting = () => countWaiting(kysely, groupId);
  groups.set(groupId, waiting);

  async function find(id: string, within = kysely): Promise<DeadLetterRow> {
    const row = await findDeadLetter(within, groupId, id);
    if (!row) throw new AppError("not_found", "There is no dead letter with this id.");
    return row;
  }

  async function replay(id: string): Promise<number> {
    const letter = await find(id);
    let applied = 0;
    for (;;) {
      let failing: DeadLetterRow | undefined;
      try {
        const done = await inTransaction(db, async (tx) => {
          await lockGroup(tx.kysely, groupId);
          failing = await firstWaitingOf(tx.kysely, groupId, letter);
          if (!failing) return true;
          await apply([toConsumed(failing)], tx.kysely);
          await settleDeadLetter(tx.kysely, failing.id, "replayed");
          return false;
        });
        if (done) return applied;
        applied++;
      } catch (error) {
        if (!failing) throw error;
        const reason = reasonOf(error);
        await noteFailure(kysely, failing.id, reason);
        throw new AppError("failed_precondition", `Dead letter ${failing.id} fails again: ${reason}. ${applied} before it were applied.`, {
          cause: error,
        });
      }
    }
  }

  return {
    replay,
    waiting,
    list: async (filter) => (await listDeadLetters(kysely, groupId, filter)).map(toDeadLetter),
    async get(id) {
      const row = await find(id);
      return { ...toDeadLetter(row), payload: row.payload };
    },
    async replayAll(topic) {
      let replayed = 0;
      for (const id of await waitingKeys(kysely, groupId, topic)) {
        try {
          replayed += await replay(id);
        } catch (error) {
          // A key that fails again does not hold up the others; its letters stay, with the reason.
          if (!(error instanceof AppError)) throw error;
        }
      }
      return { replayed, waiting: await waiting() };
    },
    discard: (id, also) =>
      inTransaction(db, async (tx) => {
        // A replay holds the same lock, so a letter that is being replayed cannot be discarded as well.
        await lockGroup(tx.kysely, groupId);
        const row = await find(id, tx.kysely);
        if (row.state !== "waiting") throw new AppError("failed_precondition", `This dead letter was ${row.state} already.`);
        await settleDeadLetter(tx.kysely, row.id, "discarded");
        await also?.(tx);
      }),
  };
}

function toConsumed(row: DeadLetterRow): ConsumedEvent {
  const { event_id: id, event_time: time, payload: value, type, source, traceparent, topic, partition, offset, key } = row;
  return { id, type, source, time, traceparent, topic, partition, offset, key, value };
}

function toDeadLetter(row: DeadLetterRow): DeadLetter {
  const { topic, partition, key, type, reason, tries, state } = row;
  return {
    id: String(row.id),
    eventId: row.event_id,
    topic,
    partition,
    offset: String(row.offset),
    key,
    type,
    eventTime: row.event_time,
    reason,
    tries,
    state,
    failedAt: row.failed_at,
    settledAt: row.settled_at,
  };
}

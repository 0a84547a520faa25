/**
 * A consumer group that changes state: a batch of events is applied in one database transaction and only then committed to
 * Kafka, so a redelivery finds its events already there. An event that cannot be applied becomes a dead letter, and later
 * events of its key follow it, so that order per key holds; `dead-letters.ts` puts them back.
 */
import { createHash } from "node:crypto";
import { setTimeout as delay } from "node:timers/promises";
import type { Transaction } from "kysely";
import { createBatcher } from "../batcher.ts";
import { toAppError } from "../errors.ts";
import type { Lifecycle } from "../lifecycle.ts";
import type { Logger } from "../log.ts";
import { Counter, Gauge, metrics } from "../metrics.ts";
import type { Database } from "../postgres/database.ts";
import type { Leader } from "../postgres/leader.ts";
import { isUuid } from "../uuid.ts";
import { type EachBatchPayload, type Kafka, runConsumer } from "./client.ts";
import { deadLetter, keysWithDeadLetters, lockGroup, reasonOf } from "./dead-letters.ts";

/** An event with its CloudEvents attributes and its place in Kafka. */
export type ConsumedEvent = {
  /** `ce_id`, a UUID. */
  id: string;
  /** `ce_type`. */
  type: string;
  /** `ce_source`. */
  source: string;
  /** `ce_time`. */
  time: Date;
  traceparent: string;
  topic: string;
  partition: number;
  offset: bigint;
  key: string;
  value: Uint8Array;
  /** Why the message is no event at all; such a message is never applied. */
  broken?: string;
};

/**
 * Applies events, in order, inside the transaction that it is given. It must leave everything as it was for an event that
 * it has seen before, and must throw for one that it cannot apply: whatever it throws rolls the whole batch back.
 */
export type Apply<Tables> = (events: ConsumedEvent[], transaction: Transaction<Tables>) => Promise<void>;

const heartbeatMs = 2_000;
const retryMs = { first: 100, most: 5_000 };
/** How many partitions' events share a transaction, and how many events of each of them: what a fetch brings, and not a rest of it. */
const partitionsTogether = 8;
const batchSize = 1_500;

const lag = new Gauge({
  name: "consumer_lag_events",
  help: "Events of a partition that this group has not applied yet",
  labelNames: ["group", "topic", "partition"],
  registers: [metrics],
});
const consumed = new Counter({
  name: "consumer_events_total",
  help: "Events taken from Kafka and committed, redeliveries included",
  labelNames: ["group", "topic"],
  registers: [metrics],
});
const deadLettered = new Counter({
  name: "consumer_dead_letters_total",
  help: "Events that became dead letters",
  labelNames: ["group", "topic"],
  registers: [metrics],
});

/** The database is away or busy, so that the event is not to blame: the SQLSTATE classes of connection, rollback, resources, lock, operator and system. */
function isTransient(error: unknown): boolean {
  if (toAppError(error).code === "unavailable") return true;
  const code = error instanceof Error && "code" in error ? String(error.code) : "";
  return /^(08|40|53|55|57|58)...$|^25006$/.test(code);
}

/** Starts a member of a consumer group. It runs until the lifecycle ends, through outages of Kafka and of the database. */
export function startGroupConsumer<Tables>(options: {
  kafka: Kafka;
  groupId: string;
  topics: string[];
  database: Database<Tables>;
  apply: Apply<Tables>;
  /** Publishes dead letters. */
  relay: Leader;
  log: Logger;
  lifecycle: Lifecycle;
  /** How often an event is tried by itself before it becomes a dead letter. */
  maxTries?: number;
}): void {
  const { kafka, groupId, topics, database, apply, relay, log, lifecycle, maxTries = 5 } = options;

  async function applyTogether(events: ConsumedEvent[]): Promise<void> {
    const followers = await database.kysely.transaction().execute(async (transaction) => {
      await lockGroup(transaction, groupId);
      const blocked = await keysWithDeadLetters(transaction, groupId, events);
      const free = events.filter((event) => !blocked.has(`${event.topic}/${event.key}`));
      const broken = free.find((event) => event.broken !== undefined);
      if (broken) throw new Error(broken.broken);
      if (free.length > 0) await apply(free, transaction);
      const followers = events.filter((event) => blocked.has(`${event.topic}/${event.key}`));
      for (const event of followers)
        await deadLetter(transaction, { groupId, event, reason: "follows a dead letter of its key", tries: 0 });
      return followers;
    });
    noteDeadLetters(followers);
  }

  // A transaction costs about as much for one event as for a hundred, so those of all partitions that come together share one.
  const applications = createBatcher<ConsumedEvent[], void>({
    maxSize: partitionsTogether,
    async run(batches) {
      await applyTogether(batches.flat());
      return batches.map(() => undefined);
    },
  });
  const commits = createBatcher<EachBatchPayload, void>({
    maxSize: partitionsTogether,
    // A commit to a broker that went away may never be answered, and the next ones must not wait behind it.
    maxInFlight: Number.POSITIVE_INFINITY,
    async run(payloads) {
      // What one partition's payload calls uncommitted is that of all partitions.
      await payloads[0]?.commitOffsetsIfNecessary(payloads[0].uncommittedOffsets());
      return payloads.map(() => undefined);
    },
  });

  /** Halves until it has found what cannot be applied: then one bad event costs those beside it a few transactions, not one each. */
  async function applyApart(events: ConsumedEvent[], throwIfStopped: () => void): Promise<void> {
    const [first] = events;
    if (first && events.length === 1) return applyAlone(first, throwIfStopped);
    try {
      await retryWhileUnavailable(() => applyTogether(events), throwIfStopped);
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
        await retryWhileUnavailable(() => applyTogether([event]), throwIfStopped);
        return;
      } catch (error) {
        throwIfStopped();
        if (tries < maxTries && event.broken === undefined) {
          await delay(retryMs.first * tries);
          continue;
        }
        const reason = reasonOf(error);
        log.error({ topic: event.topic, eventId: event.id, type: event.type, tries, reason }, "an event became a dead letter");
        await retryWhileUnavailable(
          () =>
            database.kysely.transaction().execute(async (transaction) => {
              await lockGroup(transaction, groupId);
              await deadLetter(transaction, { groupId, event, reason, tries });
            }),
          throwIfStopped,
        );
        noteDeadLetters([event]);
        return;
      }
    }
  }

  function noteDeadLetters(events: ConsumedEvent[]): void {
    for (const event of events) deadLettered.inc({ group: groupId, topic: event.topic });
    if (events.length > 0) relay.wake();
  }

  /** Tries again for as long as the database is away. `throwIfStopped` throws when this member has to stop. */
  async function retryWhileUnavailable(work: () => Promise<void>, throwIfStopped: () => void): Promise<void> {
    for (let failures = 0; ; failures++) {
      throwIfStopped();
      try {
        await work();
        if (failures > 0) log.info({ groupId, failures }, "events are applied again");
        return;
      } catch (error) {
        if (!isTransient(error)) throw error;
        if (failures === 0) log.warn({ err: error, groupId }, "events cannot be applied; trying again");
        await delay(Math.min(retryMs.first * 2 ** failures, retryMs.most));
      }
    }
  }

  async function eachBatch(payload: EachBatchPayload): Promise<void> {
    const { batch, heartbeat, resolveOffset, isRunning, isStale } = payload;
    const { topic, partition } = batch;
    const behind = (offset: bigint) =>
      lag.set({ group: groupId, topic, partition }, Math.max(0, Number(BigInt(batch.highWatermark) - offset)));

    const all = batch.messages.map((message) => {
      const event = toEvent(topic, partition, message);
      // kafkajs keeps its batch until we are done, and of each message the headers and the key with it: most of what would live
      // long enough to be copied by the garbage collector, several times.
      message.headers = {};
      message.key = null;
      return event;
    });

    // Kafka takes a member that is silent for long for dead, and a database may be away for long.
    let lost: { error: unknown } | undefined;
    const beating = setInterval(() => {
      heartbeat().catch((error: unknown) => {
        lost = { error };
      });
    }, heartbeatMs);
    const throwIfStopped = () => {
      if (lost) throw lost.error;
      if (!isRunning() || isStale()) throw new Stopped("the consumer stops");
    };

    try {
      for (let start = 0; start < all.length; start += batchSize) {
        const events = all.slice(start, start + batchSize);
        const [first, last] = [events[0], events.at(-1)];
        if (!first || !last) break;
        behind(first.offset);
        try {
          await retryWhileUnavailable(() => applications.add(events), throwIfStopped);
        } catch (error) {
          throwIfStopped();
          log.warn({ reason: reasonOf(error), topic, events: events.length }, "a batch cannot be applied as a whole; trying parts of it");
          await applyApart(events, throwIfStopped);
        }
        resolveOffset(String(last.offset));
        await commits.add(payload);
        consumed.inc({ group: groupId, topic }, events.length);
        behind(last.offset + 1n);
      }
    } catch (error) {
      if (!(error instanceof Stopped)) throw error;
    } finally {
      clearInterval(beating);
    }
  }

  // Numbers may be half a second old.
  const gather = { bytes: 1024 * 1024, milliseconds: 500 };
  void runConsumer({ kafka, groupId, topics, fromBeginning: true, gather, partitionsTogether, eachBatch, log, lifecycle });
}

/** Thrown where this member has to leave its batch unfinished; whoever gets the partition does it again. */
class Stopped extends Error {}

type KafkaMessage = EachBatchPayload["batch"]["messages"][number];

/** Reads the CloudEvents attributes of a message (binary mode). */
export function toEvent(topic: string, partition: number, message: KafkaMessage): ConsumedEvent {
  const header = (name: string) => message.headers?.[name]?.toString() ?? "";
  const id = header("ce_id").toLowerCase();
  const time = new Date(header("ce_time"));
  const problem = !isUuid(id)
    ? "the header ce_id is not a UUID"
    : header("ce_type") === ""
      ? "the header ce_type is missing"
      : Number.isNaN(time.getTime())
        ? "the header ce_time is not a time"
        : !message.value
          ? "the message has no value"
          : undefined;
  return {
    id: isUuid(id) ? id : placeAsId(topic, partition, message.offset),
    type: header("ce_type"),
    source: header("ce_source"),
    time: Number.isNaN(time.getTime()) ? new Date(Number(message.timestamp)) : time,
    traceparent: header("traceparent"),
    topic,
    partition,
    offset: BigInt(message.offset),
    key: message.key?.toString() ?? "",
    value: message.value ?? new Uint8Array(),
    ...(problem !== undefined && { broken: problem }),
  };
}

/** A message without a usable id is known by its place, so that it is deadLettered once however often it is delivered. */
function placeAsId(topic: string, partition: number, offset: string): string {
  const hash = createHash("sha256").update(`${topic}/${partition}/${offset}`).digest("hex");
  return `${hash.slice(0, 8)}-${hash.slice(8, 12)}-8${hash.slice(13, 16)}-8${hash.slice(17, 20)}-${hash.slice(20, 32)}`;
}

/**
 * A consumer group that changes state: a batch of events is applied in one database transaction and then committed to
 * Kafka, so a redelivery finds its events applied already. An event that cannot be applied becomes a dead letter, and
 * so do later events of its key, which keeps the order per key; `dead-letters.ts` replays them.
 */
import { SpanKind } from "@opentelemetry/api";
import { createBatcher } from "../batcher.ts";
import type { Lifecycle } from "../lifecycle.ts";
import type { Logger } from "../log.ts";
import { Counter, metrics } from "../metrics.ts";
import type { Database } from "../postgres/database.ts";
import type { Leader } from "../postgres/leader.ts";
import { parseTraceparent } from "../telemetry/trace-context.ts";
import { inSpanOfMany } from "../telemetry/tracing.ts";
import { createApplier } from "./applier.ts";
import { type EachBatchPayload, type Kafka, runConsumer } from "./client.ts";
import { type Apply, type ConsumedEvent, toEvent } from "./event.ts";
import { watchLag } from "./lag.ts";

const heartbeatMs = 2_000;
/** How many partitions' events share a transaction, and how many events of each: a fetch brings exactly these. */
const partitionsTogether = 8;
const batchSize = 1_500;

const consumed = new Counter({
  name: "consumer_events_total",
  help: "Events taken from Kafka and committed, redeliveries included",
  labelNames: ["group", "topic"],
  registers: [metrics],
});

/**
 * Starts a member of a consumer group. It runs until the lifecycle ends, through outages of Kafka and of the database.
 */
export function startGroupConsumer<Tables>(options: {
  kafka: Kafka;
  groupId: string;
  topics: string[];
  db: Database<Tables>;
  apply: Apply<Tables>;
  /** Publishes dead letters. */
  relay: Leader;
  log: Logger;
  lifecycle: Lifecycle;
  /** How often an event is tried by itself before it becomes a dead letter. */
  maxTries?: number;
}): void {
  const { kafka, groupId, topics, db, apply, relay, log, lifecycle, maxTries = 5 } = options;
  const applier = createApplier({ groupId, db, apply, relay, partitionsTogether, maxTries, log });
  const lag = watchLag({ kafka, groupId, topics, lifecycle });

  const commits = createBatcher<EachBatchPayload, void>({
    name: "offset_commits",
    maxSize: partitionsTogether,
    // A commit to a broker that went away may never be answered, and later commits do not wait for it.
    maxInFlight: Number.POSITIVE_INFINITY,
    async run(payloads) {
      // The uncommitted offsets of one partition's payload are those of all partitions.
      await payloads[0]?.commitOffsetsIfNecessary(payloads[0].uncommittedOffsets());
      return payloads.map(() => undefined);
    },
  });

  function process(events: ConsumedEvent[], throwIfStopped: () => void): Promise<void> {
    const details = {
      kind: SpanKind.CONSUMER,
      attributes: {
        "messaging.system": "kafka",
        "messaging.operation.name": "process",
        "messaging.operation.type": "process",
        "messaging.destination.name": events[0]?.topic ?? "",
        "messaging.consumer.group.name": groupId,
        "messaging.batch.message_count": events.length,
      },
      carried: events.map(({ traceparent }) => parseTraceparent(traceparent)),
    };
    return inSpanOfMany(`process ${events[0]?.topic}`, details, () => applier.apply(events, throwIfStopped));
  }

  async function eachBatch(payload: EachBatchPayload): Promise<void> {
    const { batch, heartbeat, resolveOffset, isRunning, isStale } = payload;
    const { topic, partition } = batch;
    const behind = (next: bigint, at: Date) => lag.note(topic, partition, BigInt(batch.highWatermark) > next ? { next, at } : undefined);
    const all = takeEvents(batch);

    // Kafka excludes a member that is silent for long, and a database may be away for long.
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
        behind(first.offset, first.time);
        await process(events, throwIfStopped);
        resolveOffset(String(last.offset));
        await commits.add(payload);
        consumed.inc({ group: groupId, topic }, events.length);
        behind(last.offset + 1n, last.time);
      }
    } catch (error) {
      // Another member may get the partition, and knows from now on how old its events are.
      lag.note(topic, partition, undefined);
      if (!(error instanceof Stopped)) throw error;
    } finally {
      clearInterval(beating);
    }
  }

  // Reports may be half a second old, so fetches wait for that long to be fuller.
  const fetch = { minBytes: 1024 * 1024, maxWaitMs: 500 };
  void runConsumer({ kafka, groupId, topics, fromBeginning: true, fetch, partitionsTogether, eachBatch, log, lifecycle });
}

function takeEvents({ topic, partition, messages }: EachBatchPayload["batch"]): ConsumedEvent[] {
  return messages.map((message) => {
    const event = toEvent(topic, partition, message);
    // kafkajs keeps its batch until we are done. Without their headers and keys, messages hold little memory meanwhile,
    // which the garbage collector would have to copy several times.
    message.headers = {};
    message.key = null;
    return event;
  });
}

/** Thrown when this member must leave its batch unfinished. The next member of the partition does the batch again. */
class Stopped extends Error {}

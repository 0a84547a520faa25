/** Events as consumers get them: CloudEvents in binary mode, with their place in Kafka. */
import { createHash } from "node:crypto";
import type { Kysely } from "kysely";
import { isUuid } from "../uuid.ts";
import type { EachBatchPayload } from "./client.ts";

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
  /** Why the message is no event. Such a message is never applied. */
  broken?: string;
};

/**
 * Applies events, in order, in the given transaction. An event that was applied before must change nothing. An event
 * that cannot be applied must throw, which rolls the whole batch back.
 */
export type Apply<Tables> = (events: ConsumedEvent[], tx: Kysely<Tables>) => Promise<void>;

/**
 * Why an event failed, for operators. What a message of Postgres quotes may be personal data, so only its code is kept.
 */
export function reasonOf(error: unknown): string {
  if (!(error instanceof Error)) return "unknown";
  if ("severity" in error && "code" in error) {
    const constraint = "constraint" in error && error.constraint ? ` on ${error.constraint}` : "";
    return `Postgres refused it: SQLSTATE ${error.code}${constraint}`;
  }
  return error.message.slice(0, 500);
}

type KafkaMessage = EachBatchPayload["batch"]["messages"][number];

/** Reads the CloudEvents attributes of a message. */
export function toEvent(topic: string, partition: number, message: KafkaMessage): ConsumedEvent {
  const header = (name: string) => message.headers?.[name]?.toString() ?? "";
  const id = header("ce_id").toLowerCase();
  const time = new Date(header("ce_time"));
  const event: ConsumedEvent = {
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
  };
  if (!isUuid(id)) event.broken = "the header ce_id is not a UUID";
  else if (event.type === "") event.broken = "the header ce_type is missing";
  else if (Number.isNaN(time.getTime())) event.broken = "the header ce_time is not a time";
  else if (!message.value) event.broken = "the message has no value";
  return event;
}

/** A message without a usable id is known by its place, so that it becomes one dead letter, however often it comes. */
function placeAsId(topic: string, partition: number, offset: string): string {
  const hash = createHash("sha256").update(`${topic}/${partition}/${offset}`).digest("hex");
  return `${hash.slice(0, 8)}-${hash.slice(8, 12)}-8${hash.slice(13, 16)}-8${hash.slice(17, 20)}-${hash.slice(20, 32)}`;
}

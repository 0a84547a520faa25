/** From a batch of messages to the log and the roll-ups, in the transaction that the consumer opened. */
import type { Apply, ConsumedEvent } from "@pm/kit/kafka/event";
import { createTally } from "../rollups/aggregate.ts";
import {
  activeGeneration,
  addToRollups,
  advanceWatermarks,
  type CollectedSums,
  collectSums,
  type Db,
  eventsOfSubjects,
  insertEvents,
  type Tables,
  type Watermark,
} from "../rollups/store.ts";
import { readEvent, readMessage } from "./event.ts";
import { subjectsOf, tallyChange } from "./patient-facts.ts";

/** Counts events once each, whatever order and however often they come. @throws Error for an event that cannot be read. */
export const applyEvents: Apply<Tables> = async (messages, transaction) => {
  const { changes, marks } = await logEvents(messages, transaction);
  await addToRollups(transaction, await activeGeneration(transaction), changes);
  await advanceWatermarks(transaction, marks);
};

/**
 * Adds events to the log. Gives what those of them change that are new, and how far each partition was read; the events
 * themselves are gone before the sums are written, which takes long enough for the garbage collector to meet them again.
 */
async function logEvents(messages: ConsumedEvent[], transaction: Db): Promise<{ changes: CollectedSums; marks: Watermark[] }> {
  const events = new Map(messages.map((message) => [message.id, { message, event: readMessage(message) }]));
  const rows = events.values().map(({ message, event }) => ({
    event_id: event.id,
    stream: event.stream,
    payload: message.value,
    subject: event.subject,
    related: event.related,
    version: event.version,
    at: event.at,
    topic: message.topic,
    partition: message.partition,
    offset: message.offset,
  }));
  const added = await insertEvents(transaction, rows);
  const fresh = [...events.values()].flatMap(({ event }) => (added.known.has(event.id) ? [] : event));
  const subjects = [...new Set(fresh.flatMap(subjectsOf))];
  // One batch is added at a time, so whatever was known before this one stands before any event of it.
  const before = (added.first ?? 0n) - 1n;
  const known = subjects.length === 0 ? [] : (await eventsOfSubjects(transaction, subjects, before)).map(readEvent);

  const tally = createTally();
  tallyChange(fresh, known, tally);
  const marks = new Map<string, Watermark>();
  // By the messages and not by the events: of an event that came twice, the second message may be the last of its partition.
  for (const { id, topic, partition, offset } of messages) {
    const before = marks.get(`${topic}/${partition}`);
    const eventTime = new Date(Math.max(events.get(id)?.event.at ?? 0, before?.eventTime.getTime() ?? 0));
    marks.set(`${topic}/${partition}`, { topic, partition, nextOffset: offset + 1n, eventTime });
  }
  return { changes: collectSums(tally.rows()), marks: [...marks.values()] };
}

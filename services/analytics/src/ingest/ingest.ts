/** From a batch of messages to the log and the roll-ups, in the transaction that the consumer opened. */
import type { Apply, ConsumedEvent } from "@pm/kit/kafka/event";
import { erasePatient } from "../erasure/store.ts";
import { createAggregate } from "../rollups/aggregate.ts";
import { activeGeneration, addToRollups, collectChanges, type RollupChanges } from "../rollups/store.ts";
import type { Db, Tables } from "../tables.ts";
import { type LoggedEvent, readEvent, readMessage } from "./event.ts";
import { addChangedFacts, patientsOf } from "./patient-facts.ts";
import { advanceWatermarks, eventsOfPatients, insertEvents, type Watermark } from "./store.ts";

/**
 * Counts each event once, in whatever order and however often it comes.
 * @throws Error for an event that cannot be read.
 */
export const applyEvents: Apply<Tables> = async (messages, tx) => {
  const { changes, marks } = await logEvents(messages, tx);
  await addToRollups(tx, await activeGeneration(tx), changes);
  await advanceWatermarks(tx, marks);
};

/**
 * Adds events to the log. Returns only what the new ones change and how far partitions were read, so that the decoded
 * events can be collected before the slow write of the roll-ups.
 */
async function logEvents(messages: ConsumedEvent[], tx: Db): Promise<{ changes: RollupChanges; marks: Watermark[] }> {
  const events = new Map(messages.map((message) => [message.id, { message, event: readMessage(message) }]));
  const rows = events.values().map(({ message, event }) => ({
    event_id: event.id,
    stream: event.stream,
    payload: message.value,
    patientId: event.patientId,
    otherPatientId: event.otherPatientId,
    version: event.version,
    at: event.at,
    topic: message.topic,
    partition: message.partition,
    offset: message.offset,
  }));
  const added = await insertEvents(tx, rows);
  const fresh = [...events.values()].flatMap(({ event }) => (added.known.has(event.id) ? [] : event));
  const patients = [...new Set(fresh.flatMap(patientsOf))];
  // One batch is added at a time, so all events before this batch have a lower number than all events of it.
  const before = (added.first ?? 0n) - 1n;
  const known = patients.length === 0 ? [] : (await eventsOfPatients(tx, patients, before)).map(readEvent);

  const aggregate = createAggregate();
  addChangedFacts(fresh, known, aggregate);
  // After the facts were computed: what the patient counted for before follows from what is removed here.
  for (const event of [...known, ...fresh]) {
    const { patientId, change } = event;
    if (patientId === null || change.case !== "erased") continue;
    // Events that come later change roll-ups as those of anybody, and are no part of the erasure.
    const rollups = fresh.includes(event) ? countChanged(patientId, fresh, known) : 0;
    await erasePatient(tx, { patientId, erasureId: change.value.erasureId, rollups });
  }
  return { changes: collectChanges(aggregate.rows()), marks: watermarksOf(messages, (id) => events.get(id)?.event) };
}

/** How many rows of the roll-ups new events change because of one patient. */
function countChanged(patientId: string, fresh: LoggedEvent[], known: LoggedEvent[]): number {
  const aggregate = createAggregate();
  const ofPatient = (event: LoggedEvent) => patientsOf(event).includes(patientId);
  addChangedFacts(fresh.filter(ofPatient), known.filter(ofPatient), aggregate);
  return [...aggregate.rows()].length;
}

/** By messages and not by events: if an event comes twice, its second message may be the last of the partition. */
function watermarksOf(messages: ConsumedEvent[], eventOf: (id: string) => LoggedEvent | undefined): Watermark[] {
  const marks = new Map<string, Watermark>();
  for (const { id, topic, partition, offset } of messages) {
    const before = marks.get(`${topic}/${partition}`);
    const eventTime = new Date(Math.max(eventOf(id)?.at ?? 0, before?.eventTime.getTime() ?? 0));
    marks.set(`${topic}/${partition}`, { topic, partition, nextOffset: offset + 1n, eventTime });
  }
  return [...marks.values()];
}

/** Events of the topic `patient.v1`, ready for the outbox. They have what readers count by, and name nobody. */
import { create, type MessageInitShape, toBinary } from "@bufbuild/protobuf";
import { timestampFromDate } from "@bufbuild/protobuf/wkt";
import { createEvent, eventType, type OutboxEvent } from "@pm/kit/kafka/outbox";
import { type PatientEvent, PatientEventSchema } from "@pm/proto/patient/v1/events";
import type { PatientRecord } from "../tables.ts";

const topic = "patient.v1";

type Happened = NonNullable<MessageInitShape<typeof PatientEventSchema>["event"]>;

function encode(patientId: string, version: number, at: Date, traceparent: string, event: Happened): OutboxEvent {
  const message: PatientEvent = create(PatientEventSchema, {
    patientId,
    version: BigInt(version),
    occurredAt: timestampFromDate(at),
    event,
  });
  const payload = toBinary(PatientEventSchema, message);
  return createEvent({ topic, key: patientId, type: eventType(topic, event.case ?? ""), payload, traceparent });
}

const demographics = (record: PatientRecord) => ({
  ...(record.dateOfBirth.length === 10 ? { dateOfBirth: record.dateOfBirth } : { partialDateOfBirth: record.dateOfBirth }),
  ...(record.sex && { sex: record.sex }),
  ...(record.address?.city && { city: record.address.city }),
  ...(record.address?.state && { state: record.address.state }),
});

export function registeredEvent(id: string, at: Date, traceparent: string, record: PatientRecord): OutboxEvent {
  const value = { demographics: demographics(record), registeredDate: record.registeredDate, registeredAt: timestampFromDate(at) };
  return encode(id, 1, at, traceparent, { case: "registered", value });
}

export function erasedEvent(id: string, version: number, at: Date, traceparent: string, erasureId: string): OutboxEvent {
  return encode(id, version, at, traceparent, { case: "erased", value: { erasureId } });
}

export function updatedEvent(
  id: string,
  version: number,
  at: Date,
  traceparent: string,
  record: PatientRecord,
  changedFields: string[],
): OutboxEvent {
  const value = { demographics: demographics(record), registeredDate: record.registeredDate, changedFields };
  return encode(id, version, at, traceparent, { case: "updated", value });
}

/** Another record was merged into this one. */
export function mergedEvent(
  id: string,
  version: number,
  at: Date,
  traceparent: string,
  record: PatientRecord,
  mergedPatientId: string,
): OutboxEvent {
  const value = { mergedPatientId, demographics: demographics(record), registeredDate: record.registeredDate };
  return encode(id, version, at, traceparent, { case: "merged", value });
}

export function unmergedEvent(
  id: string,
  version: number,
  at: Date,
  traceparent: string,
  record: PatientRecord,
  unmergedPatientId: string,
): OutboxEvent {
  const value = { unmergedPatientId, demographics: demographics(record), registeredDate: record.registeredDate };
  return encode(id, version, at, traceparent, { case: "unmerged", value });
}

export function deletedEvent(id: string, version: number, at: Date, traceparent: string): OutboxEvent {
  return encode(id, version, at, traceparent, { case: "deleted", value: {} });
}

export function restoredEvent(id: string, version: number, at: Date, traceparent: string, record: PatientRecord): OutboxEvent {
  const value = { demographics: demographics(record), registeredDate: record.registeredDate };
  return encode(id, version, at, traceparent, { case: "restored", value });
}

/** Events of the topic `patient.v1`, ready for the outbox: what readers count by, and nothing that names a person. */
import { randomUUIDv7 } from "node:crypto";
import { create, type MessageInitShape, toBinary } from "@bufbuild/protobuf";
import { timestampFromDate } from "@bufbuild/protobuf/wkt";
import { type PatientEvent, PatientEventSchema } from "@pm/proto/patient/v1/events";
import type { PatientRecord } from "../tables.ts";
import type { StoredEvent } from "./store.ts";

type Happened = NonNullable<MessageInitShape<typeof PatientEventSchema>["event"]>;

function encode(patientId: string, version: number, at: Date, traceparent: string, event: Happened): StoredEvent {
  const message: PatientEvent = create(PatientEventSchema, {
    patientId,
    version: BigInt(version),
    occurredAt: timestampFromDate(at),
    event,
  });
  return { eventId: randomUUIDv7(), type: `patient.v1.${event.case}`, payload: toBinary(PatientEventSchema, message), traceparent };
}

const demographics = (record: PatientRecord) => ({
  dateOfBirth: record.dateOfBirth,
  sex: record.sex ?? "",
  city: record.address.city ?? "",
  state: record.address.state ?? "",
});

export function registeredEvent(id: string, at: Date, traceparent: string, record: PatientRecord): StoredEvent {
  const value = { demographics: demographics(record), registeredDate: record.registeredDate, registeredAt: timestampFromDate(at) };
  return encode(id, 1, at, traceparent, { case: "registered", value });
}

export function updatedEvent(
  id: string,
  version: number,
  at: Date,
  traceparent: string,
  record: PatientRecord,
  changedFields: string[],
): StoredEvent {
  const value = { demographics: demographics(record), registeredDate: record.registeredDate, changedFields };
  return encode(id, version, at, traceparent, { case: "updated", value });
}

export function deletedEvent(id: string, version: number, at: Date, traceparent: string): StoredEvent {
  return encode(id, version, at, traceparent, { case: "deleted", value: {} });
}

export function restoredEvent(id: string, version: number, at: Date, traceparent: string, record: PatientRecord): StoredEvent {
  return encode(id, version, at, traceparent, { case: "restored", value: { demographics: demographics(record) } });
}

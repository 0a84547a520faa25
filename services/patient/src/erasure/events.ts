/**
 * What others learn of an erasure, and how it outlives every backup: on the topic `patient.erasures`, and in a file.
 */
import { create, fromBinary, fromJsonString, toBinary, toJsonString } from "@bufbuild/protobuf";
import { timestampDate, timestampFromDate } from "@bufbuild/protobuf/wkt";
import { createEvent, type OutboxEvent } from "@pm/kit/kafka/outbox";
import { type Erasure, ErasureSchema } from "@pm/proto/patient/v1/erasures";
import { erasedEvent } from "../patients/events.ts";
import type { ErasureRow } from "./store.ts";

/** Compacted, and kept for ever. */
export const erasuresTopic = "patient.erasures";

export type KeptErasure = Pick<ErasureRow, "id" | "patient_id" | "reason" | "requested_by" | "requested_at">;

function toMessage({ id, patient_id, reason, requested_by, requested_at }: KeptErasure): Erasure {
  const requestTime = timestampFromDate(requested_at);
  return create(ErasureSchema, { patientId: patient_id, erasureId: id, reason, requestedBy: requested_by, requestTime });
}

function fromMessage({ patientId, erasureId, reason, requestedBy, requestTime }: Erasure): KeptErasure {
  if (!requestTime) throw new Error("an erasure has no time");
  return { id: erasureId, patient_id: patientId, reason, requested_by: requestedBy, requested_at: timestampDate(requestTime) };
}

/** The last event of the patient, and the message that the patient was erased. */
export function eventsOf(erasure: KeptErasure, version: number, traceparent: string): [OutboxEvent, OutboxEvent] {
  const { id, patient_id: key, requested_at } = erasure;
  const payload = toBinary(ErasureSchema, toMessage(erasure));
  return [
    erasedEvent(key, version, requested_at, traceparent, id),
    createEvent({ topic: erasuresTopic, key, type: "patient.v1.erasure", payload, traceparent }),
  ];
}

export const readErasure = (value: Uint8Array): KeptErasure => fromMessage(fromBinary(ErasureSchema, value));
export const toLine = (erasure: KeptErasure): string => `${toJsonString(ErasureSchema, toMessage(erasure))}\n`;
export const fromLine = (line: string): KeptErasure => fromMessage(fromJsonString(ErasureSchema, line));

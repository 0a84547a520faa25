/** Events as the log has them: read from a message of Kafka, and read again from the log. */
import { fromBinary } from "@bufbuild/protobuf";
import { type Timestamp, timestampMs } from "@bufbuild/protobuf/wkt";
import type { Instant } from "@pm/kit/calendar";
import type { ConsumedEvent } from "@pm/kit/kafka/event";
import { isUuid } from "@pm/kit/uuid";
import { type AuthEvent, AuthEventSchema } from "@pm/proto/auth/v1/events";
import { type BillingEvent, BillingEventSchema } from "@pm/proto/billing/v1/events";
import { type PatientEvent, PatientEventSchema } from "@pm/proto/patient/v1/events";
import { streams } from "../tables.ts";
import type { StoredEvent } from "./store.ts";

type Common = {
  id: string;
  /** When it happened, by the clock of the service in which it happened. */
  at: Instant;
  /** The patient whose numbers it changes. */
  patientId: string | null;
  /** A second patient whose numbers it changes: the other side of a merge. */
  otherPatientId: string | null;
  /** Orders the events of a patient record; 0 in streams without versions. */
  version: bigint;
};

export type LoggedPatientEvent = Common & { stream: "patient.v1"; change: PatientEvent["event"] };
export type LoggedBillingEvent = Common & { stream: "billing.v1"; accountId: string; change: BillingEvent["event"] };
export type LoggedAuthEvent = Common & { stream: "auth.v1"; change: AuthEvent["event"] };
export type LoggedEvent = LoggedPatientEvent | LoggedBillingEvent | LoggedAuthEvent;

/** @throws Error that says what is wrong, for an event that can never be counted. */
export function readMessage(event: ConsumedEvent): LoggedEvent {
  const stream = streams.find((name) => event.topic === name || event.topic.startsWith(`${name}.`));
  if (!stream) throw new Error(`events of the topic ${event.topic} are not counted`);
  return readEvent({ event_id: event.id, stream, payload: event.value });
}

/** Reads an event of the log, or one that is about to be added to it. */
export function readEvent({ event_id: id, stream, payload }: StoredEvent): LoggedEvent {
  if (stream === "patient.v1") {
    const { patientId, version, occurredAt, event: change } = fromBinary(PatientEventSchema, payload);
    if (change.case === "erased") toUuid(change.value.erasureId, "erasure_id");
    const other =
      change.case === "merged" ? change.value.mergedPatientId : change.case === "unmerged" ? change.value.unmergedPatientId : undefined;
    const otherPatientId = other === undefined ? null : toUuid(other, "the other patient of a merge");
    return { id, stream, at: toInstant(occurredAt), patientId: toUuid(patientId, "patient_id"), otherPatientId, version, change };
  }
  if (stream === "billing.v1") {
    const event = fromBinary(BillingEventSchema, payload);
    const accountId = toUuid(event.accountId, "account_id");
    const patientId = toUuid(event.patientId, "patient_id");
    return { id, stream, at: toInstant(event.occurredAt), patientId, otherPatientId: null, version: 0n, accountId, change: event.event };
  }
  const { occurredAt, event: change } = fromBinary(AuthEventSchema, payload);
  return { id, stream, at: toInstant(occurredAt), patientId: null, otherPatientId: null, version: 0n, change };
}

function toInstant(time: Timestamp | undefined): Instant {
  if (!time) throw new Error("occurred_at is missing");
  return timestampMs(time);
}

function toUuid(text: string, field: string): string {
  if (!isUuid(text)) throw new Error(`${field} is not a UUID`);
  return text.toLowerCase();
}

/** What the log keeps of an event, and how it is read from a message and from the log again. */
import { fromBinary } from "@bufbuild/protobuf";
import { type Timestamp, timestampMs } from "@bufbuild/protobuf/wkt";
import type { ConsumedEvent } from "@pm/kit/kafka/event";
import { type AuthEvent, AuthEventSchema } from "@pm/proto/auth/v1/events";
import { type BillingEvent, BillingEventSchema } from "@pm/proto/billing/v1/events";
import { type PatientEvent, PatientEventSchema } from "@pm/proto/patient/v1/events";
import type { Instant } from "../calendar.ts";
import { type StoredEvent, streams } from "../rollups/types.ts";

type Common = {
  id: string;
  /** When it happened, by the service that it happened in. */
  at: Instant;
  /** The patient whose numbers it changes. */
  subject: string | null;
  /** A second patient whose numbers it changes: the other side of a merge. */
  related: string | null;
  /** Orders the events of a patient record; 0 where the stream has none. */
  version: bigint;
};

export type LoggedEvent =
  | (Common & { stream: "patient.v1"; what: PatientEvent["event"] })
  | (Common & { stream: "billing.v1"; account: string; what: BillingEvent["event"] })
  | (Common & { stream: "auth.v1"; what: AuthEvent["event"] });

const uuidForm = /^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$/i;

/** @throws Error that says what is wrong with it, for events that no log could count. */
export function readMessage(event: ConsumedEvent): LoggedEvent {
  const stream = streams.find((name) => event.topic === name || event.topic.startsWith(`${name}.`));
  if (!stream) throw new Error(`events of the topic ${event.topic} are not counted`);
  return readEvent({ event_id: event.id, stream, payload: event.value });
}

/** Reads an event of the log, or one that is about to be added to it. */
export function readEvent({ event_id: id, stream, payload }: StoredEvent): LoggedEvent {
  if (stream === "patient.v1") {
    const { patientId, version, occurredAt, event: what } = fromBinary(PatientEventSchema, payload);
    const other = what.case === "merged" ? what.value.mergedPatientId : what.case === "unmerged" ? what.value.unmergedPatientId : undefined;
    const related = other === undefined ? null : asUuid(other, "the other patient of a merge");
    return { id, stream, at: instantOf(occurredAt), subject: asUuid(patientId, "patient_id"), related, version, what };
  }
  if (stream === "billing.v1") {
    const { accountId, patientId, occurredAt, event: what } = fromBinary(BillingEventSchema, payload);
    const account = asUuid(accountId, "account_id");
    return { id, stream, at: instantOf(occurredAt), subject: asUuid(patientId, "patient_id"), related: null, version: 0n, account, what };
  }
  const { occurredAt, event: what } = fromBinary(AuthEventSchema, payload);
  return { id, stream, at: instantOf(occurredAt), subject: null, related: null, version: 0n, what };
}

function instantOf(time: Timestamp | undefined): Instant {
  if (!time) throw new Error("occurred_at is missing");
  return timestampMs(time);
}

function asUuid(text: string, what: string): string {
  if (!uuidForm.test(text)) throw new Error(`${what} is not a UUID`);
  return text.toLowerCase();
}

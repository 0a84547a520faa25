/** Events as the other services publish them. */
import { createHash, randomUUID } from "node:crypto";
import { create, type MessageInitShape, toBinary } from "@bufbuild/protobuf";
import { timestampFromMs } from "@bufbuild/protobuf/wkt";
import { lockGroup } from "@pm/kit/kafka/dead-letter-store";
import type { ConsumedEvent } from "@pm/kit/kafka/event";
import { inTransaction } from "@pm/kit/postgres/transaction";
import { AuthEventSchema } from "@pm/proto/auth/v1/events";
import { BillingEventSchema } from "@pm/proto/billing/v1/events";
import { PatientEventSchema } from "@pm/proto/patient/v1/events";
import { applyEvents } from "../src/ingest/ingest.ts";
import type { AnalyticsDatabase } from "../src/tables.ts";

type Rest = { at: string | number; id?: string };
type What<T extends { event?: unknown }> = NonNullable<T["event"]>;

/** A UUID that is always the same for a name. */
export function idOf(name: string): string {
  const hash = createHash("sha256").update(name).digest("hex");
  return `${hash.slice(0, 8)}-${hash.slice(8, 12)}-7${hash.slice(13, 16)}-8${hash.slice(17, 20)}-${hash.slice(20, 32)}`;
}

let nextOffset = 0n;

function consumed(topic: string, key: string, value: Uint8Array, at: number, id: string = randomUUID()): ConsumedEvent {
  return {
    id,
    type: `${topic}.Event`,
    source: "/test",
    time: new Date(at),
    traceparent: "",
    topic,
    partition: 0,
    offset: nextOffset++,
    key,
    value,
  };
}

export function patientEvent(
  patient: string,
  version: number,
  { at, id }: Rest,
  event: What<MessageInitShape<typeof PatientEventSchema>>,
): ConsumedEvent {
  const time = new Date(at).getTime();
  const patientId = idOf(patient);
  const message = create(PatientEventSchema, { patientId, version: BigInt(version), occurredAt: timestampFromMs(time), event });
  return consumed("patient.v1", patientId, toBinary(PatientEventSchema, message), time, id);
}

/** A registration at an instant, by default of a patient in Springfield who was born on 1 June 1980. */
export function registered(
  patient: string,
  at: string | number,
  demographics: {
    dateOfBirth?: string;
    partialDateOfBirth?: string;
    sex?: string;
    city?: string;
    state?: string;
    registeredDate?: string;
  } = {},
): ConsumedEvent {
  const { registeredDate = new Date(at).toISOString().slice(0, 10), ...rest } = demographics;
  return patientEvent(
    patient,
    1,
    { at },
    {
      case: "registered",
      value: {
        demographics: { dateOfBirth: "1980-06-01", sex: "female", city: "Springfield", state: "IL", ...rest },
        registeredDate,
        registeredAt: timestampFromMs(new Date(at).getTime()),
      },
    },
  );
}

export function billingEvent(patient: string, { at, id }: Rest, event: What<MessageInitShape<typeof BillingEventSchema>>): ConsumedEvent {
  const time = new Date(at).getTime();
  const accountId = idOf(`account of ${patient}`);
  const message = create(BillingEventSchema, { accountId, patientId: idOf(patient), occurredAt: timestampFromMs(time), event });
  return consumed("billing.v1", accountId, toBinary(BillingEventSchema, message), time, id);
}

export function authEvent({ at, id }: Rest, event: What<MessageInitShape<typeof AuthEventSchema>>): ConsumedEvent {
  const time = new Date(at).getTime();
  const message = create(AuthEventSchema, { occurredAt: timestampFromMs(time), event });
  return consumed("auth.v1", randomUUID(), toBinary(AuthEventSchema, message), time, id);
}

/** Applies a batch of events as the consumer does: one batch at a time. */
export function applyBatch(db: AnalyticsDatabase, events: ConsumedEvent[]): Promise<void> {
  return inTransaction(db, async ({ kysely: tx }) => {
    await lockGroup(tx, "analytics");
    await applyEvents(events, tx);
  });
}

export const money = (minorUnits: number | bigint, currencyCode = "EUR") => ({ currencyCode, minorUnits: BigInt(minorUnits) });

/** What billing tells the other services: events of the topic `billing.v1`, as outbox rows. */
import { randomUUIDv7 } from "node:crypto";
import { create, type MessageInitShape, toBinary } from "@bufbuild/protobuf";
import { timestampFromDate } from "@bufbuild/protobuf/wkt";
import type { OutboxEvent } from "@pm/kit/outbox";
import { BillingEventSchema } from "@pm/proto/billing/v1/events";

export const topic = "billing.v1";

type Happening = Exclude<NonNullable<MessageInitShape<typeof BillingEventSchema>["event"]>, { case: undefined }>;

/** The outbox row for something that happened to an account. `type` is the name of the event's message, as in `billing.v1.ChargeCreated`. */
export function toOutboxEvent(
  account: { id: string; patientId: string },
  event: Happening,
  context: { now: Date; traceparent: string },
): OutboxEvent {
  const message = create(BillingEventSchema, {
    accountId: account.id,
    patientId: account.patientId,
    occurredAt: timestampFromDate(context.now),
    event,
  });
  const name = event.case.charAt(0).toUpperCase() + event.case.slice(1);
  return {
    eventId: randomUUIDv7(),
    topic,
    key: account.id,
    type: `billing.v1.${name}`,
    payload: toBinary(BillingEventSchema, message),
    traceparent: context.traceparent,
  };
}

/** The topic `billing.v1`: what other services learn about billing accounts. */
import { create, type MessageInitShape, toBinary } from "@bufbuild/protobuf";
import { timestampFromDate } from "@bufbuild/protobuf/wkt";
import { createEvent, eventType, type OutboxEvent } from "@pm/kit/kafka/outbox";
import { BillingEventSchema } from "@pm/proto/billing/v1/events";
import type { Row } from "./tables.ts";

export const topic = "billing.v1";

/** One case of the message `BillingEvent`, with its value. */
export type DomainEvent = Exclude<NonNullable<MessageInitShape<typeof BillingEventSchema>["event"]>, { case: undefined }>;

/** The event as a row of the outbox. Its key is the account id, so that the events of an account stay in order. */
export function toOutboxEvent(
  account: Pick<Row<"accounts">, "id" | "patient_id">,
  event: DomainEvent,
  { at, traceparent }: { at: Date; traceparent: string },
): OutboxEvent {
  const message = create(BillingEventSchema, {
    accountId: account.id,
    patientId: account.patient_id,
    occurredAt: timestampFromDate(at),
    event,
  });
  const payload = toBinary(BillingEventSchema, message);
  return createEvent({ topic, key: account.id, type: eventType(topic, event.case), payload, traceparent });
}

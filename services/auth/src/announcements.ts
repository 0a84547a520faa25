/** What auth tells the others on the topic `auth.v1`, as outbox rows, and what it writes into its audit trail. */
import { randomUUID } from "node:crypto";
import { create, type MessageInitShape, toBinary } from "@bufbuild/protobuf";
import { timestampFromMs } from "@bufbuild/protobuf/wkt";
import type { AuditEntriesTable } from "@pm/kit/audit";
import type { OutboxTable } from "@pm/kit/outbox";
import { AuthEventSchema } from "@pm/proto/auth/v1/events";
import type { AuthTransaction } from "./schema.ts";

export const authTopic = "auth.v1";

type EventOf = NonNullable<MessageInitShape<typeof AuthEventSchema>["event"]>;

/** @param key session id, or user id where there is no session, so that the events of one stay in order */
export function authEvent(event: EventOf, key: string, origin: { traceparent: string; now: number }): OutboxTable {
  const message = create(AuthEventSchema, { occurredAt: timestampFromMs(origin.now), event });
  const name = String(event.case).replace(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`);
  return {
    event_id: randomUUID(),
    topic: authTopic,
    key,
    type: `auth.v1.${name}`,
    payload: toBinary(AuthEventSchema, message),
    traceparent: origin.traceparent,
  };
}

/** Writes events and audit entries in the transaction of the change that they tell of. */
export async function announce(transaction: AuthTransaction, rows: { events?: OutboxTable[]; audit?: AuditEntriesTable[] }): Promise<void> {
  if (rows.events?.length) await transaction.insertInto("outbox").values(rows.events).execute();
  if (rows.audit?.length)
    await transaction
      .insertInto("audit_entries")
      .values(rows.audit.map((entry) => ({ ...entry, details: JSON.stringify(entry.details) })))
      .execute();
}

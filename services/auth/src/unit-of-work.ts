/**
 * A change and what is told of it: rows, audit entries and events commit together; then the relay is woken and the sessions
 * that ended are refused here at once, before Kafka says so to everybody.
 */

import { randomUUID, randomUUIDv7 } from "node:crypto";
import { type MessageInitShape, create as message, toBinary } from "@bufbuild/protobuf";
import { timestampFromMs } from "@bufbuild/protobuf/wkt";
import type { RevocationSnapshot } from "@pm/kit/auth/revocation-list";
import { traceparentFrom } from "@pm/kit/metrics";
import { AuthEventSchema, RevocationReason } from "@pm/proto/auth/v1/events";
import type { Origin } from "./client-address.ts";
import { revocationSkewSeconds } from "./sessions/revocations.ts";
import { endSessions } from "./sessions/store.ts";
import type { AuditRow, AuthDatabase, AuthTransaction, OutboxRow } from "./tables.ts";

/** Who does something, and by which request. `id` is a user's id, `auth`, or `anonymous`. */
export type Actor = { id: string; origin: Pick<Origin, "requestId" | "traceparent"> & { address?: string } };

/** Auth itself, when no request asked for it. */
export function actingAlone(): Actor {
  return { id: "auth", origin: { requestId: randomUUID(), traceparent: traceparentFrom(undefined) } };
}

export type EndReason = "LOGOUT" | "REVOKED" | "USER_DISABLED" | "CREDENTIALS_CHANGED" | "REFRESH_TOKEN_REUSED";

/** Sessions of one user: one, all, or all but one. */
export type SessionsOf = { userId: string; only?: string; except?: string | undefined };

export type AuthEventInit = NonNullable<MessageInitShape<typeof AuthEventSchema>["event"]>;

/** A change under way. What is noted here is written when the work is done, in the same transaction. */
export type Change = {
  transaction: AuthTransaction;
  /** @param action a word of the OWASP logging vocabulary; @param subject the id of what it was done to */
  audit(action: string, subject: string, details?: Record<string, unknown>): void;
  /** @param key session id, or user id where there is no session, so that the events of one stay in order */
  tell(event: AuthEventInit, key: string): void;
  /** Ends sessions and returns how many. */
  endSessions(which: SessionsOf, why: EndReason): Promise<number>;
};

export type Changes = {
  run<T>(actor: Actor, work: (change: Change) => Promise<T>): Promise<T>;
  /** Wakes whoever publishes and seals, soon after a commit that wrote rows by a statement of its own. */
  wake(): void;
};

/** An event of the topic `auth.v1` as an outbox row. */
export function authEvent(event: AuthEventInit, key: string, origin: { traceparent: string; now: number }): OutboxRow {
  const name = String(event.case).replace(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`);
  return {
    event_id: randomUUIDv7(),
    topic: "auth.v1",
    key,
    type: `auth.v1.${name}`,
    payload: toBinary(AuthEventSchema, message(AuthEventSchema, { occurredAt: timestampFromMs(origin.now), event })),
    traceparent: origin.traceparent,
  };
}

/** Nobody waits for the news of a sign-in, and sending or sealing one costs as much as fifty. What `run` tells of goes at once. */
const lingerMs = 500;

export function createChanges(options: {
  database: AuthDatabase;
  tokenSeconds: number;
  now: () => number;
  wake: () => void;
  /** Told after the commit which sessions and users are out. */
  revoked: (revoked: Partial<RevocationSnapshot>) => void;
}): Changes {
  const { database, tokenSeconds, now, wake, revoked } = options;

  let waking = false;

  return {
    wake() {
      if (waking) return;
      waking = true;
      setTimeout(() => {
        waking = false;
        wake();
      }, lingerMs).unref();
    },
    async run(actor, work) {
      const events: OutboxRow[] = [];
      const entries: AuditRow[] = [];
      const sessions: RevocationSnapshot["sessions"] = [];
      const until = now() + (tokenSeconds + revocationSkewSeconds) * 1_000;
      const result = await database.kysely.transaction().execute(async (transaction) => {
        const change: Change = {
          transaction,
          audit(action, subject, details = {}) {
            const { requestId, address } = actor.origin;
            const json = JSON.stringify({ ...details, ...(address && { address }) });
            entries.push({ actor: actor.id, action, subject, request_id: requestId, details: json });
          },
          tell(event, key) {
            events.push(authEvent(event, key, { traceparent: actor.origin.traceparent, now: now() }));
          },
          async endSessions(which, why) {
            const ended = await endSessions(transaction, which, why);
            for (const sessionId of ended) {
              const tokensExpireAt = timestampFromMs(until);
              const value = { sessionId, userId: which.userId, tokensExpireAt, reason: RevocationReason[why] };
              change.tell({ case: "sessionRevoked", value }, sessionId);
              const action = why === "REFRESH_TOKEN_REUSED" ? "authn_token_reuse" : "authn_token_revoked";
              change.audit(action, which.userId, { sessionId, because: why });
              sessions.push({ id: sessionId, until });
            }
            return ended.length;
          },
        };
        const value = await work(change);
        if (events.length > 0) await transaction.insertInto("outbox").values(events).execute();
        if (entries.length > 0) await transaction.insertInto("audit_entries").values(entries).execute();
        return value;
      });
      if (sessions.length > 0) revoked({ sessions });
      if (events.length > 0 || entries.length > 0) wake();
      return result;
    },
  };
}

/**
 * A change of accounts, sessions or keys. Its rows, audit entries and events commit together. After the commit, the
 * relay is woken, and this process refuses the tokens of ended sessions without waiting for Kafka.
 */
import { randomUUID } from "node:crypto";
import { type MessageInitShape, create as message, toBinary } from "@bufbuild/protobuf";
import { type Timestamp, timestampFromMs } from "@bufbuild/protobuf/wkt";
import { type AuditEntry, insertAuditEntries } from "@pm/kit/audit/audit";
import { clientSubject } from "@pm/kit/auth/access";
import type { RevocationSnapshot } from "@pm/kit/auth/revocation-list";
import { createEvent, eventType, insertOutboxEvents, type OutboxEvent } from "@pm/kit/kafka/outbox";
import { inTransaction } from "@pm/kit/postgres/transaction";
import type { RequestContext } from "@pm/kit/request-context";
import { traceparentFrom } from "@pm/kit/telemetry/trace-context";
import { AuthEventSchema, RevocationReason } from "@pm/proto/auth/v1/events";
import { endClientSessions } from "./clients/store.ts";
import { endSessions } from "./sessions/store.ts";
import type { AuthDatabase, AuthTransaction } from "./tables.ts";

/** The context of what auth does by itself, without a request. */
export function systemActor(): RequestContext {
  return { actorId: "auth", requestId: randomUUID(), traceparent: traceparentFrom(undefined) };
}

export type EndReason = "LOGOUT" | "REVOKED" | "USER_DISABLED" | "CREDENTIALS_CHANGED" | "REFRESH_TOKEN_REUSED";

/** Sessions of one user: one, all, or all but one. */
export type SessionsOf = { userId: string; only?: string; except?: string | undefined };

type AuthEventInit = NonNullable<MessageInitShape<typeof AuthEventSchema>["event"]>;

/** A change under way. Audit entries and events are kept and written at its end, in the same transaction. */
export type Change = {
  tx: AuthTransaction;
  /** When the last access token that is valid now has expired, however far the clocks of services differ. */
  tokensExpireAt: Timestamp;
  /** @param action a word of the OWASP logging vocabulary; @param subject the id of the user or object that changes */
  audit(action: string, subject: string, details?: Record<string, unknown>): void;
  /** @param key the session's id, or the user's id without a session: events with one key stay in order */
  emit(event: AuthEventInit, key: string): void;
  /** Ends sessions and returns how many. */
  endSessions(which: SessionsOf, reason: EndReason): Promise<number>;
  /** Ends the tokens of one API client, or of all clients of a team. */
  endTokens(of: { clientId: string } | { teamId: string }): Promise<void>;
};

export type UnitOfWork = {
  /** Runs the work of one change. The audit trail has the client's address if the context has one. */
  run<T>(context: RequestContext & { address?: string }, work: (change: Change) => Promise<T>): Promise<T>;
  /** Wakes the relay within half a second, for statements that write their own rows into the outbox. */
  wakeSoon(): void;
};

const topic = "auth.v1";

/** An event of auth, for the outbox. */
export function authEvent(event: AuthEventInit, key: string, { traceparent, now }: { traceparent: string; now: number }): OutboxEvent {
  const payload = toBinary(AuthEventSchema, message(AuthEventSchema, { occurredAt: timestampFromMs(now), event }));
  return createEvent({ topic, key, type: eventType(topic, String(event.case)), payload, traceparent });
}

/** A revocation outlives the last token by this much, because the clocks of machines differ. */
export const clockSkewSeconds = 60;

/** Nobody waits for the event of a sign-in, and publishing one costs as much as fifty. Other events are not delayed. */
const lingerMs = 500;

export function createUnitOfWork(options: {
  db: AuthDatabase;
  tokenSeconds: number;
  now: () => number;
  wake: () => void;
  /** Called after the commit with the sessions that have ended. */
  onRevoked: (revoked: Partial<RevocationSnapshot>) => void;
}): UnitOfWork {
  const { db, tokenSeconds, now, wake, onRevoked } = options;
  let waking = false;
  return {
    wakeSoon() {
      if (waking) return;
      waking = true;
      setTimeout(() => {
        waking = false;
        wake();
      }, lingerMs).unref();
    },
    async run({ actorId, requestId, traceparent, address }, work) {
      const until = now() + (tokenSeconds + clockSkewSeconds) * 1_000;
      const { result, revoked, emitted } = await inTransaction(db, async (tx) => {
        const events: OutboxEvent[] = [];
        const entries: AuditEntry[] = [];
        const revoked: RevocationSnapshot["sessions"] = [];
        const revoke = (sessionId: string, userId: string, reason: EndReason) => {
          const value = { sessionId, userId, tokensExpireAt: change.tokensExpireAt, reason: RevocationReason[reason] };
          change.emit({ case: "sessionRevoked", value }, sessionId);
          const action = reason === "REFRESH_TOKEN_REUSED" ? "authn_token_reuse" : "authn_token_revoked";
          change.audit(action, userId, { sessionId, because: reason });
          revoked.push({ id: sessionId, until });
        };
        const change: Change = {
          tx,
          tokensExpireAt: timestampFromMs(until),
          audit(action, subject, details = {}) {
            entries.push({ actorId, action, subject, requestId, details: { ...details, ...(address && { address }) } });
          },
          emit(event, key) {
            events.push(authEvent(event, key, { traceparent, now: now() }));
          },
          async endSessions(which, reason) {
            const ended = await endSessions(tx, which, reason);
            for (const sessionId of ended) revoke(sessionId, which.userId, reason);
            return ended.length;
          },
          async endTokens(of) {
            for (const { clientId, sessionId } of await endClientSessions(tx, of)) revoke(sessionId, clientSubject(clientId), "REVOKED");
          },
        };
        const result = await work(change);
        await insertOutboxEvents(tx, events);
        await insertAuditEntries(tx, entries);
        return { result, revoked, emitted: events.length > 0 };
      });
      if (revoked.length > 0) onRevoked({ sessions: revoked });
      if (emitted) wake();
      return result;
    },
  };
}

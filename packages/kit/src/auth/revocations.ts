/**
 * Which sessions have ended before their tokens expire, in memory, so that no request asks auth.
 *
 * Two sources, either of which is enough. Kafka: every process reads `auth.v1` from its beginning in a group of its own and
 * hears of a revocation within milliseconds. Auth's snapshot: all revocations that still matter, fetched at the start and
 * every few seconds, so that a process that starts or lives while Kafka is down knows them too, a few seconds late. Until one
 * of the two has answered, nothing is known: the process is not ready, and tokens are refused with 503 (fail closed). When
 * both go away later, what is known stays known: a revocation could come late then, by at most a token's five minutes.
 */
import { randomUUID } from "node:crypto";
import { setTimeout as delay } from "node:timers/promises";
import { fromBinary } from "@bufbuild/protobuf";
import { timestampMs } from "@bufbuild/protobuf/wkt";
import { AuthEventSchema } from "@pm/proto/auth/v1/events";
import { z } from "zod";
import { AppError } from "../errors.ts";
import { type EachBatchPayload, type Kafka, offsetsOf, runConsumer } from "../kafka/client.ts";
import type { Lifecycle } from "../lifecycle.ts";
import type { Logger } from "../log.ts";
import { Gauge, Histogram, metrics } from "../metrics.ts";
import type { Bearer, KnownRevocations } from "./verifier.ts";

/** What auth answers at `GET /auth/revocations`. Times in milliseconds since the epoch. */
export const revocationSnapshotSchema = z.object({
  /** Sessions that have ended; `until` when the last token of it has expired. */
  sessions: z.array(z.object({ id: z.string(), until: z.number() })),
  /** Users whose tokens issued before that second are void. */
  users: z.array(z.object({ id: z.string(), issuedBefore: z.number(), until: z.number() })),
});
export type RevocationSnapshot = z.infer<typeof revocationSnapshotSchema>;

/** For `createVerifier`. `isRevoked` throws AppError unavailable while nothing is known yet. */
export type Revocations = KnownRevocations & {
  /** Takes up what this process itself has revoked, before anybody tells it. */
  add(revoked: Partial<RevocationSnapshot>): void;
};

const known = new Gauge({ name: "revocations_known", help: "Ended sessions and disabled users kept in memory", registers: [metrics] });
const lag = new Histogram({
  name: "revocation_lag_seconds",
  help: "Time from the end of a session in auth until this process refuses its tokens",
  buckets: [0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 5],
  registers: [metrics],
});

const snapshotEveryMs = 5_000;
const pruneEveryMs = 30_000;

/** Fetches the snapshot from auth with this service's own token. */
export function snapshotFromAuth(options: { authUrl: string; serviceToken: () => Promise<string> }): () => Promise<RevocationSnapshot> {
  return async () => {
    const response = await fetch(`${options.authUrl}/auth/revocations`, {
      headers: { authorization: `Bearer ${await options.serviceToken()}` },
      signal: AbortSignal.timeout(3_000),
    });
    if (!response.ok) throw new Error(`auth answered ${response.status} when asked for revocations`);
    return revocationSnapshotSchema.parse(await response.json());
  };
}

/** What is known, in memory, and the calls that go on until something is known of them. */
export function createRevocationList() {
  const sessions = new Map<string, number>();
  const users = new Map<string, { issuedBefore: number; until: number }>();
  /** By session and by user. */
  const calls = new Map<string, Set<{ bearer: Bearer; end: () => void }>>();

  function isRevoked({ sessionId, userId, issuedAt }: Bearer): boolean {
    if (sessionId !== undefined && sessions.has(sessionId)) return true;
    const user = users.get(userId);
    return user !== undefined && issuedAt < user.issuedBefore;
  }

  return {
    isRevoked,
    /** What no token can outlive any more is not kept, but ends calls: they may have outlived their tokens. */
    add({ sessions: ended = [], users: disabled = [] }: Partial<RevocationSnapshot>): void {
      const now = Date.now();
      for (const { id, until } of ended) {
        if (until > now) sessions.set(id, Math.max(until, sessions.get(id) ?? 0));
        for (const { end } of calls.get(id) ?? []) end();
      }
      for (const { id, issuedBefore, until } of disabled) {
        const known = users.get(id);
        if (until > now && (known === undefined || known.issuedBefore <= issuedBefore)) users.set(id, { issuedBefore, until });
        for (const { bearer, end } of calls.get(id) ?? []) if (bearer.issuedAt < issuedBefore) end();
      }
    },
    onRevoked(bearer: Bearer, end: () => void): () => void {
      const { sessionId, userId } = bearer;
      const keys = sessionId === undefined ? [userId] : [sessionId, userId];
      const stop = () => {
        for (const key of keys) {
          calls.get(key)?.delete(call);
          if (calls.get(key)?.size === 0) calls.delete(key);
        }
      };
      const call = {
        bearer,
        end: () => {
          stop();
          end();
        },
      };
      for (const key of keys) calls.set(key, (calls.get(key) ?? new Set()).add(call));
      if (isRevoked(bearer)) call.end();
      return stop;
    },
    /** Forgets what no token can outlive any more. Returns how much is left. */
    prune(): number {
      const now = Date.now();
      for (const [id, until] of sessions) if (until <= now) sessions.delete(id);
      for (const [id, { until }] of users) if (until <= now) users.delete(id);
      return sessions.size + users.size;
    },
  };
}

/** Follows revocations until the lifecycle ends. */
export function followRevocations(options: {
  service: string;
  kafka: Kafka;
  fetchSnapshot: () => Promise<RevocationSnapshot>;
  log: Logger;
  lifecycle: Lifecycle;
  topic?: string;
}): Revocations {
  const { service, kafka, fetchSnapshot, log, lifecycle, topic = "auth.v1" } = options;
  const { add, onRevoked, ...list } = createRevocationList();
  const stop = new AbortController();
  let informed = false;

  function isRevoked(bearer: Bearer): boolean {
    if (!informed)
      throw new AppError("unavailable", "It is not known yet which sessions have ended. Try again shortly.", { retryAfterSeconds: 1 });
    return list.isRevoked(bearer);
  }

  // Kafka: positions are compared with where the topic ended when the group was joined. Empty partitions give no batch.
  const positions = new Map<string, bigint>();
  let ends: { place: string; end: bigint }[] | undefined;

  function noteProgress(): void {
    if (informed || !ends) return;
    informed = ends.every(({ place, end }) => (positions.get(place) ?? 0n) >= end);
  }

  async function noteEnds(): Promise<void> {
    const offsets = [...(await offsetsOf(kafka, [topic]))];
    ends = offsets.filter(([, { low, high }]) => low !== high).map(([place, { high }]) => ({ place, end: high }));
    noteProgress();
  }

  function take(value: Uint8Array): void {
    const { event, occurredAt } = fromBinary(AuthEventSchema, value);
    const happened = occurredAt ? timestampMs(occurredAt) : Date.now();
    if (event.case !== "sessionRevoked" && event.case !== "userDisabled") return;
    const until = event.value.tokensExpireAt ? timestampMs(event.value.tokensExpireAt) : happened + 600_000;
    if (event.case === "sessionRevoked") add({ sessions: [{ id: event.value.sessionId, until }] });
    else add({ users: [{ id: event.value.userId, issuedBefore: Math.floor(happened / 1_000), until }] });
    if (until > Date.now()) lag.observe(Math.max(0, Date.now() - happened) / 1_000);
  }

  async function eachBatch({ batch, resolveOffset, heartbeat }: EachBatchPayload): Promise<void> {
    for (const message of batch.messages) {
      try {
        if (message.value) take(message.value);
      } catch (error) {
        // Whatever it was about is in auth's snapshot too, which is fetched within seconds.
        log.error({ err: error, topic, partition: batch.partition, offset: message.offset }, "an event of auth cannot be read");
      }
    }
    resolveOffset(batch.lastOffset());
    positions.set(`${topic}/${batch.partition}`, BigInt(batch.lastOffset()) + 1n);
    noteProgress();
    await heartbeat();
  }

  void runConsumer({
    kafka,
    groupId: `${service}.revocations.${randomUUID()}`,
    topics: [topic],
    fromBeginning: true,
    eachBatch,
    log,
    lifecycle,
    onJoined: () => void noteEnds().catch((error: unknown) => log.debug({ err: error }, "the ends of the topic are not known")),
  });

  // The snapshot.
  async function poll(): Promise<void> {
    let failures = 0;
    while (!stop.signal.aborted) {
      try {
        add(await fetchSnapshot());
        informed = true;
        if (failures > 0) log.info({ failures }, "auth's revocations are known again");
        failures = 0;
      } catch (error) {
        if (failures++ === 0) log.warn({ err: error }, "auth's revocations cannot be fetched; trying again");
      }
      const pause = informed ? snapshotEveryMs * (0.8 + 0.4 * Math.random()) : 500;
      await delay(pause, undefined, { signal: stop.signal }).catch(() => undefined);
    }
  }
  const polling = poll();

  const pruning = setInterval(() => known.set(list.prune()), pruneEveryMs);

  lifecycle.onReady("revocations", () => informed);
  lifecycle.onClose("revocations", async () => {
    clearInterval(pruning);
    stop.abort();
    await polling;
  });
  return { isRevoked, onRevoked, add };
}

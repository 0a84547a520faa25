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
import type { IsRevoked } from "./verifier.ts";

/** What auth answers at `GET /auth/revocations`. Times in milliseconds since the epoch. */
export const revocationSnapshotSchema = z.object({
  /** Sessions that have ended; `until` when the last token of it has expired. */
  sessions: z.array(z.object({ id: z.string(), until: z.number() })),
  /** Users whose tokens issued before that second are void. */
  users: z.array(z.object({ id: z.string(), issuedBefore: z.number(), until: z.number() })),
});
export type RevocationSnapshot = z.infer<typeof revocationSnapshotSchema>;

export type Revocations = {
  /** For `createVerifier`. @throws AppError unavailable while nothing is known yet. */
  isRevoked: IsRevoked;
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
  const sessions = new Map<string, number>();
  const users = new Map<string, { issuedBefore: number; until: number }>();
  const stop = new AbortController();
  let informed = false;

  function add({ sessions: ended = [], users: disabled = [] }: Partial<RevocationSnapshot>): void {
    const now = Date.now();
    for (const { id, until } of ended) if (until > now) sessions.set(id, Math.max(until, sessions.get(id) ?? 0));
    for (const { id, issuedBefore, until } of disabled) {
      const known = users.get(id);
      if (until > now && (known === undefined || known.issuedBefore <= issuedBefore)) users.set(id, { issuedBefore, until });
    }
  }

  const isRevoked: IsRevoked = ({ sessionId, userId, issuedAt }) => {
    if (!informed)
      throw new AppError("unavailable", "It is not known yet which sessions have ended. Try again shortly.", { retryAfterSeconds: 1 });
    if (sessionId !== undefined && sessions.has(sessionId)) return true;
    const user = users.get(userId);
    return user !== undefined && issuedAt < user.issuedBefore;
  };

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
    if (until <= Date.now()) return;
    if (event.case === "sessionRevoked") add({ sessions: [{ id: event.value.sessionId, until }] });
    else add({ users: [{ id: event.value.userId, issuedBefore: Math.floor(happened / 1_000), until }] });
    lag.observe(Math.max(0, Date.now() - happened) / 1_000);
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

  const pruning = setInterval(() => {
    const now = Date.now();
    for (const [id, until] of sessions) if (until <= now) sessions.delete(id);
    for (const [id, { until }] of users) if (until <= now) users.delete(id);
    known.set(sessions.size + users.size);
  }, pruneEveryMs);

  lifecycle.onReady("revocations", () => informed);
  lifecycle.onClose("revocations", async () => {
    clearInterval(pruning);
    stop.abort();
    await polling;
  });
  return { isRevoked, add };
}

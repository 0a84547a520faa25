/**
 * Learns which sessions have ended before their tokens expire, so that no request has to ask auth.
 *
 * There are two sources, and either is enough. Kafka: every process reads `auth.v1` from its beginning in a group of
 * its own and learns of a revocation within milliseconds. Auth's snapshot: all revocations that still matter, fetched
 * at the start and every few seconds, so that a process that starts or runs while Kafka is down knows them a few
 * seconds late. Until one source has answered, nothing is known: the process is not ready, and tokens are refused with
 * 503 (fail closed). If both fail later, what is known stays known; a revocation may then be late by at most the five
 * minutes for which a token is valid.
 */
import { randomUUID } from "node:crypto";
import { setTimeout as delay } from "node:timers/promises";
import { fromBinary } from "@bufbuild/protobuf";
import { timestampMs } from "@bufbuild/protobuf/wkt";
import { AuthEventSchema } from "@pm/proto/auth/v1/events";
import { AppError } from "../errors.ts";
import { type EachBatchPayload, type Kafka, offsetsOf, runConsumer } from "../kafka/client.ts";
import type { Lifecycle } from "../lifecycle.ts";
import type { Logger } from "../log.ts";
import { Gauge, Histogram, metrics } from "../metrics.ts";
import { createRevocationList, type RevocationSnapshot, revocationSnapshotSchema } from "./revocation-list.ts";
import type { KnownRevocations } from "./verifier.ts";

/** For `createVerifier`. `isRevoked` throws AppError unavailable while nothing is known yet. */
type Revocations = KnownRevocations & {
  /** Adds what this process has revoked itself, before the event comes back from Kafka. */
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
  const { add, onRevoked, ...list } = createRevocationList();
  const [informed, stop] = [new AbortController(), new AbortController()];
  const isInformed = () => informed.signal.aborted;
  const inform = () => informed.abort();

  const enough = AbortSignal.any([informed.signal, stop.signal]);
  followTopic({ service, kafka, topic, add, onCaughtUp: inform, enough, log, lifecycle });
  const polling = (async () => {
    let failures = 0;
    while (!stop.signal.aborted) {
      try {
        add(await fetchSnapshot());
        inform();
        if (failures > 0) log.info({ failures }, "auth's revocations are known again");
        failures = 0;
      } catch (error) {
        if (failures++ === 0) log.warn({ err: error }, "auth's revocations cannot be fetched; trying again");
      }
      const pause = isInformed() ? snapshotEveryMs * (0.8 + 0.4 * Math.random()) : 500;
      await delay(pause, undefined, { signal: stop.signal }).catch(() => undefined);
    }
  })();
  const pruning = setInterval(() => known.set(list.prune()), pruneEveryMs);

  lifecycle.onReady("revocations", isInformed);
  lifecycle.onClose("revocations", async () => {
    clearInterval(pruning);
    stop.abort();
    await polling;
  });
  return {
    isRevoked(bearer) {
      if (!isInformed())
        throw new AppError("unavailable", "It is not known yet which sessions have ended. Try again shortly.", { retryAfterSeconds: 1 });
      return list.isRevoked(bearer);
    },
    onRevoked,
    add,
  };
}

/**
 * Adds the revocations of the topic. `onCaughtUp` is called once they were read up to where the topic ended when the
 * group was joined.
 */
function followTopic(options: {
  service: string;
  kafka: Kafka;
  topic: string;
  add: Revocations["add"];
  onCaughtUp: () => void;
  /** Aborted when it no longer matters where the topic ends. */
  enough: AbortSignal;
  log: Logger;
  lifecycle: Lifecycle;
}): void {
  const { service, kafka, topic, add, onCaughtUp, enough, log, lifecycle } = options;
  const positions = new Map<string, bigint>();
  let ends: { place: string; end: bigint }[] | undefined;
  let isAsking = false;

  function noteProgress(): void {
    if (ends?.every(({ place, end }) => (positions.get(place) ?? 0n) >= end)) onCaughtUp();
  }

  async function noteEnds(): Promise<void> {
    ends = undefined;
    while (ends === undefined && !enough.aborted) {
      try {
        const offsets = [...(await offsetsOf(kafka, [topic]))];
        // An empty partition gives no batch, so nothing is waited for there.
        ends = offsets.filter(([, { low, high }]) => low !== high).map(([place, { high }]) => ({ place, end: high }));
      } catch (error) {
        // kafkajs gives up at the first error, such as a leader that has just moved.
        log.debug({ err: error }, "the ends of the topic are not known; trying again");
        await delay(500, undefined, { signal: enough }).catch(() => undefined);
      }
    }
    noteProgress();
  }

  async function onJoined(): Promise<void> {
    if (isAsking) return;
    isAsking = true;
    await noteEnds();
    isAsking = false;
  }

  async function eachBatch({ batch, resolveOffset, heartbeat }: EachBatchPayload): Promise<void> {
    for (const message of batch.messages) {
      try {
        if (message.value) addEvent(message.value, add);
      } catch (error) {
        // Its revocation is also in auth's snapshot, which is fetched within seconds.
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
    onJoined: () => void onJoined(),
  });
}

function addEvent(value: Uint8Array, add: Revocations["add"]): void {
  const { event, occurredAt } = fromBinary(AuthEventSchema, value);
  const happened = occurredAt ? timestampMs(occurredAt) : Date.now();
  if (event.case !== "sessionRevoked" && event.case !== "userDisabled") return;
  const until = event.value.tokensExpireAt ? timestampMs(event.value.tokensExpireAt) : happened + 600_000;
  if (event.case === "sessionRevoked") add({ sessions: [{ id: event.value.sessionId, until }] });
  else add({ users: [{ id: event.value.userId, issuedBefore: Math.floor(happened / 1_000), until }] });
  if (until > Date.now()) lag.observe(Math.max(0, Date.now() - happened) / 1_000);
}

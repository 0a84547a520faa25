/**
 * How far a consumer group is behind. It is measured beside the loop that applies events, because a loop that is stuck
 * measures nothing. Every member measures all partitions, so the others show what a frozen one has not applied.
 */
import { setTimeout as delay } from "node:timers/promises";
import type { Lifecycle } from "../lifecycle.ts";
import { Gauge, metrics } from "../metrics.ts";
import { type Kafka, openPositions } from "./client.ts";

const everyMs = 3_000;

type Place = { group: string; topic: string; partition: number };
/** `next` is the offset that the group has not applied yet; `oldest` the event at it, if this member has read it. */
type Standing = { place: Place; next: bigint; events: number; since: number; ends: EndHistory; oldest?: { next: bigint; at: Date } };
const standings = new Map<string, Standing>();

const labelNames = ["group", "topic", "partition"] as const;
new Gauge({
  ...{ name: "consumer_lag_events", help: "Events of a partition that this group has not applied yet", labelNames, registers: [metrics] },
  collect() {
    this.reset();
    for (const { place, events } of standings.values()) this.set(place, events);
  },
});
new Gauge({
  name: "consumer_lag_seconds",
  help: "Age of the first event of a partition that this group has not applied yet; 0 if it has applied all",
  ...{ labelNames, registers: [metrics] },
  collect() {
    this.reset();
    for (const standing of standings.values()) this.set(standing.place, ageOf(standing));
  },
});

/** It grows while Kafka does not answer, too. */
function ageOf({ events, since, next, oldest }: Standing): number {
  if (events === 0) return 0;
  const began = oldest && oldest.next >= next ? Math.min(since, oldest.at.getTime()) : since;
  return Math.max(0, (Date.now() - began) / 1_000);
}

export type Lag = {
  /** Says when the first event happened that is not applied yet, which is known once it is read. */
  note(topic: string, partition: number, oldest: { next: bigint; at: Date } | undefined): void;
};

/** Measures until the lifecycle ends, through outages of Kafka. */
export function watchLag(options: { kafka: Kafka; groupId: string; topics: string[]; lifecycle: Lifecycle }): Lag {
  const { kafka, groupId: group, topics, lifecycle } = options;
  const standingOf = (topic: string, partition: number): Standing => {
    const key = `${group}/${topic}/${partition}`;
    const known = standings.get(key);
    if (known) return known;
    const standing = { place: { group, topic, partition }, next: 0n, events: 0, since: 0, ends: createEndHistory() };
    standings.set(key, standing);
    return standing;
  };
  const positions = openPositions(kafka, group, topics);
  const stop = new AbortController();

  async function measure(): Promise<void> {
    const read = await positions.read();
    if (stop.signal.aborted) return;
    for (const { topic, partition, next, end } of read) {
      const standing = standingOf(topic, partition);
      const now = Date.now();
      standing.ends.note(end, now);
      Object.assign(standing, { next, events: Math.max(0, Number(end - next)), since: standing.ends.firstSeenBeyond(next) ?? now });
    }
  }

  void (async () => {
    while (!stop.signal.aborted) {
      // The consumer logs that Kafka does not answer.
      await measure().catch(() => undefined);
      await delay(everyMs, undefined, { signal: stop.signal }).catch(() => undefined);
    }
  })();
  lifecycle.onClose(`lag of ${group}`, async () => {
    stop.abort();
    // Nobody waits for it, because connecting to a Kafka that is away takes longer than closing may.
    void positions.close();
    for (const [key, { place }] of standings) if (place.group === group) standings.delete(key);
  });
  return {
    note(topic, partition, oldest) {
      const standing = standingOf(topic, partition);
      if (oldest) standing.oldest = oldest;
      else delete standing.oldest;
    },
  };
}

export type EndHistory = {
  /** Notes where the partition ends at this time. */
  note(end: bigint, at: number): void;
  /** When an end beyond this offset was first seen, if one was. Offsets must grow: it forgets earlier ends. */
  firstSeenBeyond(offset: bigint): number | undefined;
};

/** How many ends are remembered of a partition. Beyond it, every second one is forgotten, so times get less exact. */
const maxEnds = 200;

export function createEndHistory(): EndHistory {
  let seen: { end: bigint; at: number }[] = [];
  let last = -1n;
  return {
    note(end, at) {
      if (end <= last) return;
      last = end;
      seen.push({ end, at });
      if (seen.length > maxEnds) seen = seen.filter((_, index) => index % 2 === 0);
    },
    firstSeenBeyond(offset) {
      const first = seen.findIndex(({ end }) => end > offset);
      seen = first < 0 ? [] : seen.slice(first);
      return seen[0]?.at;
    },
  };
}

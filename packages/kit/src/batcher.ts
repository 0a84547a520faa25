/**
 * Batches work that is cheaper together. Items that arrive during a call wait for the next call. A caller who is alone
 * does not wait; under load, batches grow by themselves, so that many items share a commit, a round trip or a remote
 * call.
 */
import { Gauge, Histogram, metrics } from "./metrics.ts";
import type { RecordedSpan } from "./telemetry/span.ts";
import { inSpanOfMany, recordedSpan } from "./telemetry/tracing.ts";

type Batcher<Item, Result> = {
  /** Adds an item to the next batch. Rejects with the error that `run` threw for its batch. */
  add(item: Item): Promise<Result>;
  /** Milliseconds since the oldest call in progress began; 0 if there is none. */
  runningMs(): number;
};

type Entry<Item, Result> = {
  item: Item;
  resolve: (result: Result) => void;
  reject: (error: unknown) => void;
  /** The span of the request that waits for the item. */
  span: RecordedSpan | undefined;
};

const sizes = new Histogram({
  name: "batch_size",
  help: "Items of a batch",
  labelNames: ["batch"],
  buckets: [1, 2, 4, 8, 16, 32, 64, 128, 512, 1_500],
  registers: [metrics],
});
/** What waits and runs in the batchers of this process, by name. */
const saturation = new Map<string, () => { waiting: number; running: number }>();
for (const state of ["waiting", "running"] as const)
  new Gauge({
    name: `batch_${state}`,
    help: state === "waiting" ? "Items that wait for their batch to start" : "Batches in progress",
    labelNames: ["batch"],
    registers: [metrics],
    collect() {
      for (const [batch, read] of saturation) this.set({ batch }, read()[state]);
    },
  });

/**
 * @param options.name in metrics and spans; lower case letters and underscores
 * @param options.run gets one to `maxSize` items and returns one result for each, in the same order
 * @param options.maxInFlight how many calls may be in progress at a time; 1 by default
 * @param options.linger is awaited after a successful call, so that more items collect for the next; must not reject
 * @param options.gatherMs after a successful call, the next one waits until as many items wait as were in that call or
 * waited when it ended, and no longer than this. Then callers who send one item after the other stay together, instead
 * of falling into groups that take turns. A caller who is alone never waits. Only if `maxInFlight` is 1.
 */
export function createBatcher<Item, Result>(options: {
  name: string;
  run: (items: Item[]) => Promise<Result[]>;
  maxSize: number;
  maxInFlight?: number;
  linger?: () => Promise<void>;
  gatherMs?: number;
}): Batcher<Item, Result> {
  const { name, run, maxSize, maxInFlight = 1, linger, gatherMs } = options;
  const queue: Entry<Item, Result>[] = [];
  const started = new Set<{ at: number }>();
  let scheduled = false;
  let gathering: { count: number; end: () => void } | undefined;
  saturation.set(name, () => ({ waiting: queue.length, running: started.size }));

  async function runBatch(entries: Entry<Item, Result>[]): Promise<void> {
    const call = { at: performance.now() };
    started.add(call);
    sizes.observe({ batch: name }, entries.length);
    try {
      const results = await runInSpan(entries);
      if (results.length !== entries.length) throw new Error(`a batch of ${entries.length} got ${results.length} results`);
      entries.forEach((entry, index) => {
        entry.resolve(results[index] as Result);
      });
      if (linger) await linger();
      if (gatherMs) await gather(Math.min(entries.length + queue.length, maxSize), gatherMs);
    } catch (error) {
      for (const entry of entries) entry.reject(error);
    } finally {
      started.delete(call);
      start();
    }
  }

  /** Waits until so many items wait, or for so many milliseconds. */
  function gather(count: number, milliseconds: number): Promise<void> {
    if (queue.length >= count) return Promise.resolve();
    return new Promise((resolve) => {
      const end = () => {
        gathering = undefined;
        clearTimeout(timer);
        resolve();
      };
      const timer = setTimeout(end, milliseconds);
      gathering = { count, end };
    });
  }

  /** The batch is one piece of work for all its requests. From each of their traces a link leads to it. */
  function runInSpan(entries: Entry<Item, Result>[]): Promise<Result[]> {
    const details = { attributes: { "batch.size": entries.length }, carried: entries.map(({ span }) => span?.context) };
    return inSpanOfMany(`batch ${name}`, details, (batch) => {
      if (batch)
        for (const { span } of entries)
          if (span && span.context.traceId !== batch.context.traceId) span.addLink({ context: batch.context });
      return run(entries.map((entry) => entry.item));
    });
  }

  function start(): void {
    while (queue.length > 0 && started.size < maxInFlight) void runBatch(queue.splice(0, maxSize));
  }

  return {
    add: (item) =>
      new Promise((resolve, reject) => {
        queue.push({ item, resolve, reject, span: recordedSpan() });
        if (gathering && queue.length >= gathering.count) gathering.end();
        if (scheduled || started.size >= maxInFlight) return;
        scheduled = true;
        // Waits for the end of this turn of the event loop, so that requests read from several sockets share a batch.
        setImmediate(() => {
          scheduled = false;
          start();
        });
      }),
    runningMs() {
      const [oldest] = started;
      return oldest ? performance.now() - oldest.at : 0;
    },
  };
}

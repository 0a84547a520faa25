/**
 * Work that is cheaper together: whatever arrives while a call is under way waits and goes with the next one. Alone, an item
 * goes at once; under load, batches grow by themselves, so a commit, a round trip or a remote call is paid once for many.
 */

export type Batcher<Item, Result> = {
  /** Puts an item into the next batch. Rejects with what `run` threw for its batch. */
  add(item: Item): Promise<Result>;
  /** Items that wait for their batch to start. */
  waiting(): number;
  /** Milliseconds since the oldest call under way began; 0 where there is none. */
  runningMs(): number;
  /** Resolves when nothing waits and nothing is under way, at once where that is so. */
  idle(): Promise<void>;
};

type Entry<Item, Result> = { item: Item; resolve: (result: Result) => void; reject: (error: unknown) => void };

/**
 * @param options.run gets one to `maxSize` items and gives one result for each, in the same order
 * @param options.maxInFlight calls at a time, 1 where not said
 * @param options.linger waited for after a call that succeeded, before the next one: meanwhile more comes together. Must not reject
 */
export function createBatcher<Item, Result>(options: {
  run: (items: Item[]) => Promise<Result[]>;
  maxSize: number;
  maxInFlight?: number;
  linger?: () => Promise<void>;
}): Batcher<Item, Result> {
  const { run, maxSize, maxInFlight = 1, linger } = options;
  const queue: Entry<Item, Result>[] = [];
  const started = new Set<{ at: number }>();
  let scheduled = false;
  let whenIdle: (() => void)[] = [];

  async function runBatch(entries: Entry<Item, Result>[]): Promise<void> {
    const call = { at: performance.now() };
    started.add(call);
    try {
      const results = await run(entries.map((entry) => entry.item));
      if (results.length !== entries.length) throw new Error(`a batch of ${entries.length} got ${results.length} results`);
      entries.forEach((entry, index) => {
        entry.resolve(results[index] as Result);
      });
      if (linger) await linger();
    } catch (error) {
      for (const entry of entries) entry.reject(error);
    } finally {
      started.delete(call);
      start();
    }
  }

  function start(): void {
    while (queue.length > 0 && started.size < maxInFlight) void runBatch(queue.splice(0, maxSize));
    if (started.size > 0) return;
    for (const resolve of whenIdle) resolve();
    whenIdle = [];
  }

  return {
    add: (item) =>
      new Promise((resolve, reject) => {
        queue.push({ item, resolve, reject });
        if (scheduled || started.size >= maxInFlight) return;
        scheduled = true;
        // Not at once but after this turn of the event loop: requests that were read from several sockets together stay together.
        setImmediate(() => {
          scheduled = false;
          start();
        });
      }),
    waiting: () => queue.length,
    runningMs() {
      const [oldest] = started;
      return oldest ? performance.now() - oldest.at : 0;
    },
    idle: () =>
      new Promise((resolve) => {
        if (queue.length === 0 && started.size === 0) resolve();
        else whenIdle.push(resolve);
      }),
  };
}

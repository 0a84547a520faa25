/**
 * Batches work that is cheaper together. Items that arrive during a call wait for the next call. A single item does not
 * wait; under load, batches grow by themselves, so that many items share a commit, a round trip or a remote call.
 */

type Batcher<Item, Result> = {
  /** Adds an item to the next batch. Rejects with the error that `run` threw for its batch. */
  add(item: Item): Promise<Result>;
  /** How many items wait for their batch to start. */
  waiting(): number;
  /** Milliseconds since the oldest call in progress began; 0 if there is none. */
  runningMs(): number;
  /** Resolves when nothing waits and no call is in progress. */
  idle(): Promise<void>;
};

type Entry<Item, Result> = { item: Item; resolve: (result: Result) => void; reject: (error: unknown) => void };

/**
 * @param options.run gets one to `maxSize` items and returns one result for each, in the same order
 * @param options.maxInFlight how many calls may be in progress at a time; 1 by default
 * @param options.linger is awaited after a successful call, before the next one, so that more items collect; must not
 * reject
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
        // Waits for the end of this turn of the event loop, so that requests that were read from several sockets share
        // a batch.
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

/**
 * Password hashing: argon2id with OWASP's parameters, on threads of its own, behind a bounded queue. A flood of logins
 * is refused at once instead of being answered when nobody waits any more, and the event loop stays free.
 */
import { randomBytes } from "node:crypto";
import { readdirSync, readFileSync } from "node:fs";
import { availableParallelism, getPriority, setPriority } from "node:os";
import { type Algorithm, hash, verify } from "@node-rs/argon2";
import { AppError } from "@pm/kit/errors";
import { Gauge, metrics, watchThreads } from "@pm/kit/metrics";
import { inSpan } from "@pm/kit/telemetry/tracing";
import { toOpaqueString } from "./opaque-string.ts";

/**
 * 19 MiB and two passes: OWASP's first choice for one lane. `Algorithm.Argon2id` is 2; its enum exists only as a type.
 */
export const argon2Options = { algorithm: 2 satisfies Algorithm.Argon2id, memoryCost: 19_456, timeCost: 2, parallelism: 1 } as const;

/**
 * Parallel hashes: one more than there are cores, so that no core idles while the event loop handles one hash and
 * starts the next. At most three, because one of libuv's four threads stays free for DNS and files.
 */
export const hashesAtOnce = Math.min(3, availableParallelism() + 1);

export type Passwords = {
  /** Refuses a request before any work is done for it. @throws AppError unavailable if the queue is full */
  checkRoom(): void;
  /** Whether as many hashes wait as are under way, so that the cores are busy for at least another round. */
  isBusy(): boolean;
  /** @throws AppError unavailable if the queue is full */
  hash(password: string): Promise<string>;
  /**
   * Whether the hash is of this password. `outdated` means that the hash is of the password as it was typed, from
   * before passwords were normalised, and should be replaced. Without a hash (no such account, or no password set), it
   * takes the same time and does not match.
   * @throws AppError unavailable if the queue is full
   */
  verify(passwordHash: string | null | undefined, password: string): Promise<{ matches: boolean; outdated: boolean }>;
};

/**
 * Lowers the priority of the threads that hash. Otherwise, with a hash on every core, a response that takes a
 * millisecond would wait for several hashes. Linux has a priority for each thread, and lowering it takes no privileges.
 * Threads that have this priority or a lower one already (a process that was started with `nice`) stay as they are:
 * raising a priority takes privileges, and the error would end the process.
 */
function lowerThreadPriority(): void {
  if (process.platform !== "linux") return;
  const threads = readdirSync("/proc/self/task").filter((id) => readFileSync(`/proc/self/task/${id}/comm`, "utf8") === "libuv-worker\n");
  for (const id of threads.map(Number)) if (getPriority(id) < 10) setPriority(id, 10);
}

/**
 * @param concurrency parallel hashes, each on a thread of libuv's pool (four by default) with 19 MiB of memory
 * @param maxQueue how many hashes may wait
 */
export async function createPasswords({ concurrency, maxQueue }: { concurrency: number; maxQueue: number }): Promise<Passwords> {
  const waiting: (() => void)[] = [];
  let running = 0;
  const dummy = await hash(randomBytes(16).toString("hex"), argon2Options);
  // That hash has started the threads of the pool.
  lowerThreadPriority();

  watchThreads("passwords", () => ({ size: concurrency, busy: running, waiting: waiting.length }));
  new Gauge({
    name: "password_queue_length",
    help: "The former name of thread_pool_waiting for passwords",
    registers: [metrics],
    collect() {
      this.set(waiting.length);
    },
  });

  function checkRoom(): void {
    if (waiting.length < maxQueue) return;
    throw new AppError("unavailable", "Too many people are signing in right now. Try again in a moment.", { retryAfterSeconds: 1 });
  }

  async function queued<T>(work: () => Promise<T>): Promise<T> {
    if (running >= concurrency) {
      checkRoom();
      await new Promise<void>((resolve) => waiting.push(resolve));
    } else running++;
    try {
      return await inSpan("hash password", {}, work);
    } finally {
      // The place goes straight to the next in the queue, so that no later request can take it.
      const next = waiting.shift();
      if (next) next();
      else running--;
    }
  }

  return {
    checkRoom,
    isBusy: () => waiting.length >= concurrency,
    hash: (password) => queued(() => hash(toOpaqueString(password), argon2Options)),
    verify: (passwordHash, password) =>
      queued(async () => {
        const exists = passwordHash !== null && passwordHash !== undefined;
        const expected = passwordHash ?? dummy;
        const normalised = toOpaqueString(password);
        if (await verify(expected, normalised)) return { matches: exists, outdated: false };
        const outdated = normalised !== password && (await verify(expected, password));
        return { matches: exists && outdated, outdated };
      }),
  };
}

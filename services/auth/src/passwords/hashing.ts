/**
 * Password hashing: argon2id with OWASP's parameters, on threads of its own, behind a bounded queue. A flood of logins
 * is refused at the door instead of being answered when nobody waits any more, and the event loop stays free.
 */
import { randomBytes } from "node:crypto";
import { readdirSync, readFileSync } from "node:fs";
import { availableParallelism, getPriority, setPriority } from "node:os";
import { type Algorithm, hash, verify } from "@node-rs/argon2";
import { AppError } from "@pm/kit/errors";
import { Gauge, metrics } from "@pm/kit/metrics";

/** 19 MiB and two passes: OWASP's first choice for one lane. `Algorithm.Argon2id` is 2; its enum exists only as a type. */
export const argon2Options = { algorithm: 2 satisfies Algorithm.Argon2id, memoryCost: 19_456, timeCost: 2, parallelism: 1 } as const;

/**
 * One more than there are cores, so that none of them idles while the event loop takes one hash's answer and hands out the next.
 * One thread of libuv's four stays free for names and files.
 */
export const hashesAtOnce = Math.min(3, availableParallelism() + 1);

export type Passwords = {
  /** Refuses at once, before any work was done. @throws AppError unavailable where too many wait already. */
  checkRoom(): void;
  /** Whether a whole round of hashes waits behind those under way: then the cores are busy with them, and nothing else is urgent. */
  isBusy(): boolean;
  /** @throws AppError unavailable where too many wait already. */
  hash(password: string): Promise<string>;
  /**
   * Whether it is the password of that hash. Without a hash (no such account, or none set) it takes the same time and
   * answers no.
   * @throws AppError unavailable where too many wait already.
   */
  verify(passwordHash: string | null | undefined, password: string): Promise<boolean>;
};

/**
 * Makes the threads that hash yield the cores to the event loop, and to whoever else has something short to do: with a hash
 * on every core, an answer that takes a millisecond would wait for several. Linux gives each thread a priority of its own,
 * which may be lowered without rights; where there is no /proc the threads stay as they are. So do threads that are as low
 * already, in a process that was started with `nice`: raising them would take rights, and failing to would end the process.
 */
function letThreadsGiveWay(): void {
  if (process.platform !== "linux") return;
  const threads = readdirSync("/proc/self/task").filter((id) => readFileSync(`/proc/self/task/${id}/comm`, "utf8") === "libuv-worker\n");
  for (const id of threads.map(Number)) if (getPriority(id) < 10) setPriority(id, 10);
}

/**
 * @param concurrency hashes at a time, each on a thread of libuv's pool (four by default) and with 19 MiB
 * @param maxQueue hashes that may wait
 */
export async function createPasswords({ concurrency, maxQueue }: { concurrency: number; maxQueue: number }): Promise<Passwords> {
  const waiting: (() => void)[] = [];
  let running = 0;
  const dummy = await hash(randomBytes(16).toString("hex"), argon2Options);
  // The pool's threads are there since that hash.
  letThreadsGiveWay();

  new Gauge({
    name: "password_queue_length",
    help: "Passwords that wait to be hashed",
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
      return await work();
    } finally {
      // The place goes to the next one directly, so that nobody who comes later can slip in.
      const next = waiting.shift();
      if (next) next();
      else running--;
    }
  }

  return {
    checkRoom,
    isBusy: () => waiting.length >= concurrency,
    hash: (password) => queued(() => hash(password, argon2Options)),
    verify: (passwordHash, password) =>
      queued(async () => {
        const matches = await verify(passwordHash ?? dummy, password);
        return matches && passwordHash !== null && passwordHash !== undefined;
      }),
  };
}

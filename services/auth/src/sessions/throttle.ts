/**
 * Slows down guessing of passwords and codes. The counts are in Postgres, so that all replicas share them. Each attempt
 * is counted before it is checked, so that 1,000 parallel attempts count as 1,000. A success takes its count back.
 *
 * An attempt to sign in counts in three leaky buckets: for the pair of account and address, for the address, and for
 * the account from any address. So does a mail that somebody asks for. A full bucket of the first two blocks, twice as
 * long after each further failure. The third never blocks, because then anybody could lock the owner out. While it is
 * full, an address that is new to the account has one attempt instead of five before the first bucket blocks it.
 * Accounts are counted by the e-mail address that was sent, whether such an account exists or not.
 *
 * Attempts that arrive together are counted by one statement, with the same result as if they arrived one by one.
 */
import { createHmac, createSecretKey } from "node:crypto";
import { createBatcher } from "@pm/kit/batcher";
import { emailKey } from "@pm/kit/email";
import { AppError } from "@pm/kit/errors";
import type { AuthDatabase } from "../tables.ts";
import type { Account } from "../users/account-lookup-store.ts";
import {
  type Bucket,
  type Counted,
  type CountedRow,
  countAttempts,
  forgive,
  forgiveValues,
  groupBuckets,
  type Limit,
} from "./throttle-store.ts";

type ThrottleLimits = { pair: Limit; address: Limit; account: Limit; code: Limit; mail: Limit; mailAnywhere: Limit; client: Limit };

/** docs/identity.md explains the numbers. */
const throttleLimits: ThrottleLimits = {
  pair: { capacity: 5, leakSeconds: 900, maxDelaySeconds: 900 },
  // Many people of a hospital share one address and mistype, and a login counts until it has succeeded.
  address: { capacity: 100, leakSeconds: 10, maxDelaySeconds: 300 },
  account: { capacity: 50, leakSeconds: 60, maxDelaySeconds: 0 },
  // Six digits are few, so a full bucket blocks the account's codes from any address. Only somebody who knows the
  // password can fill it, and recovery codes still work.
  code: { capacity: 20, leakSeconds: 600, maxDelaySeconds: 900 },
  // Mails to one recipient that one client address asks for, and those that all ask for, which block nobody.
  mail: { capacity: 3, leakSeconds: 600, maxDelaySeconds: 900 },
  mailAnywhere: { capacity: 10, leakSeconds: 600, maxDelaySeconds: 0 },
  // Nobody guesses 256 bits. This bounds what a program costs that goes on with a wrong secret, and admits the workers
  // of a right one that start together.
  client: { capacity: 50, leakSeconds: 10, maxDelaySeconds: 300 },
};

export type Attempt = Counted & {
  /** Takes the count back and forgets earlier failures of this pair of account and address. */
  succeeded(): Promise<void>;
  /** Takes the count back of an attempt that neither failed nor succeeded. Earlier failures still count. */
  undo(): Promise<void>;
};

export type Throttle = {
  /** Counts an attempt to prove a password. @throws AppError resource_exhausted with the seconds to wait */
  attempt(email: string, address: string): Promise<Attempt>;
  /** Does the same, and reads the account of the e-mail address in the same round trip. */
  attemptAndRead(email: string, address: string): Promise<{ attempt: Attempt; account: Account | undefined }>;
  /**
   * Counts a six-digit code for an account whose password was right.
   * @throws AppError resource_exhausted with the seconds to wait
   */
  code(account: string): Promise<Attempt>;
  /** Counts a mail that somebody requested. @throws AppError resource_exhausted with the seconds to wait */
  mail(recipient: string, address: string): Promise<void>;
  /**
   * Counts an attempt of an API client to prove who it is. It never keeps people of the same address out.
   * @throws AppError resource_exhausted with the seconds to wait
   */
  client(id: string, address: string): Promise<Attempt>;
};

/** One attempt with its buckets, and the e-mail address of the account to read. */
type Counting = { buckets: Bucket[]; email?: string | undefined };
/** `wait` is 0 if the attempt is admitted, otherwise the seconds to wait. */
type Outcome = { wait: number; account: Account | undefined };

export function createThrottle(options: { db: AuthDatabase; secret: Uint8Array; limits?: ThrottleLimits }): Throttle {
  const { db, secret, limits = throttleLimits } = options;
  const hmacKey = createSecretKey(secret);
  /** Keys are hashes, so that the table does not tell whose sign-ins failed. */
  const keyOf = (kind: string, ...parts: string[]) =>
    createHmac("sha256", hmacKey)
      .update(JSON.stringify([kind, ...parts]))
      .digest();

  // Sign-ins come in bursts, and those from one address wait at its bucket. One statement for all waits less.
  const batcher = createBatcher<Counting, Outcome>({
    name: "login_attempts",
    maxSize: 64,
    run: (countings) => countTogether(db, countings),
  });

  /** @throws AppError resource_exhausted with the seconds to wait */
  async function count(counting: Counting): Promise<Outcome> {
    const outcome = await batcher.add(counting);
    if (outcome.wait === 0) return outcome;
    const wait = Math.ceil(outcome.wait);
    throw new AppError("resource_exhausted", `Too many attempts. Try again in ${wait} s.`, { retryAfterSeconds: wait });
  }

  function passwordBuckets(email: string, address: string): Bucket[] {
    const account = emailKey(email);
    const anywhere = keyOf("account", account);
    return [
      { key: keyOf("pair", account, address), limit: limits.pair, account: anywhere },
      { key: keyOf("address", address), limit: limits.address },
      { key: anywhere, limit: limits.account },
    ];
  }

  function attemptIn(buckets: Bucket[]): Attempt {
    const keys = buckets.map(({ key }) => key);
    return {
      keys,
      succeeded: () => forgive(db, forgiveValues([{ keys }], true)),
      undo: () => forgive(db, forgiveValues([{ keys }], false)),
    };
  }

  return {
    async attempt(email, address) {
      const buckets = passwordBuckets(email, address);
      await count({ buckets });
      return attemptIn(buckets);
    },
    async attemptAndRead(email, address) {
      const buckets = passwordBuckets(email, address);
      const { account } = await count({ buckets, email });
      return { attempt: attemptIn(buckets), account };
    },
    async code(account) {
      const buckets = [{ key: keyOf("code", account), limit: limits.code }];
      await count({ buckets });
      const attempt = attemptIn(buckets);
      // A right code does not make earlier wrong ones forgotten.
      return { ...attempt, succeeded: attempt.undo };
    },
    async mail(recipient, address) {
      const account = emailKey(recipient);
      const anywhere = keyOf("mail anywhere", account);
      const buckets = [
        { key: keyOf("mail", account, address), limit: limits.mail, account: anywhere },
        { key: keyOf("address", address), limit: limits.address },
        { key: anywhere, limit: limits.mailAnywhere },
      ];
      await count({ buckets });
    },
    async client(id, address) {
      const buckets = [
        { key: keyOf("client", id, address), limit: limits.client },
        { key: keyOf("clients of address", address), limit: limits.address },
      ];
      await count({ buckets });
      return attemptIn(buckets);
    },
  };
}

/**
 * Counts attempts that arrived together, each as if it had arrived alone: once an attempt has filled one of its
 * buckets, the attempts after it in that bucket do not count at all.
 */
async function countTogether(db: AuthDatabase, countings: Counting[]): Promise<Outcome[]> {
  const buckets = groupBuckets(countings.map((counting) => counting.buckets));
  const emails = [...new Set(countings.flatMap(({ email }) => email ?? []))];
  const row = await countAttempts(db, buckets, emails);
  const { outcomes, surplus } = judge(countings, buckets, row);
  if (surplus.length > 0) await forgive(db, [surplus.map(({ key }) => key), surplus.map(({ count }) => count), surplus.map(() => false)]);
  return outcomes;
}

/** Decides which attempts are let in. The surplus is what refused ones counted in buckets that did not refuse them. */
function judge(countings: Counting[], buckets: { key: Buffer }[], row: CountedRow | undefined) {
  const counted = new Map(row?.counted?.map((bucket) => [bucket.key, { ...bucket, admitted: 0 }]));
  const countedIn = (key: Buffer) => counted.get(key.toString("hex"));

  function waitAt({ key, limit }: Bucket): number {
    const bucket = countedIn(key);
    // A block that ended meanwhile has no seconds left, but nothing was counted, so the attempt waits a second.
    if (!bucket) return Math.max(1, row?.blocked?.[key.toString("hex")] ?? 0);
    const isFull = limit.maxDelaySeconds > 0 && bucket.admitted > 0 && bucket.level + bucket.admitted > bucket.capacity;
    return isFull ? Math.max(1, bucket.wait) : 0;
  }

  const outcomes = countings.map((counting): Outcome => {
    const wait = Math.max(...counting.buckets.map(waitAt));
    if (wait === 0)
      for (const { key } of counting.buckets) {
        const bucket = countedIn(key);
        if (bucket) bucket.admitted++;
      }
    return { wait, account: counting.email === undefined ? undefined : row?.accounts?.[counting.email] };
  });

  const surplus = buckets.flatMap(({ key }) => {
    const bucket = countedIn(key);
    return bucket && bucket.count > bucket.admitted ? [{ key, count: bucket.count - bucket.admitted }] : [];
  });
  return { outcomes, surplus };
}

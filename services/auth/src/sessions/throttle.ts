/**
 * Slows down guessing, in Postgres so that replicas agree. Attempts are counted before they are made and taken back when
 * they succeed, so that a thousand at once are a thousand.
 *
 * Three buckets leak as time passes: of this account from this address, of this address, and of this account from anywhere.
 * The first two block, for twice as long with every further failure. The third never blocks, because then anybody could lock
 * the owner out; while it is full, an address that is new to the account has one attempt instead of five before the first
 * bucket blocks it. Accounts are counted by the address that was typed, whether it exists or not.
 *
 * Attempts that come together are counted in one statement, as if they came one by one.
 */
import { createHmac, createSecretKey } from "node:crypto";
import { createBatcher } from "@pm/kit/batcher";
import { AppError } from "@pm/kit/errors";
import type { AuthDatabase } from "../tables.ts";
import type { Account } from "./store.ts";

type Limit = { capacity: number; leakSeconds: number; maxDelaySeconds: number };
export type ThrottleLimits = { pair: Limit; address: Limit; account: Limit; code: Limit; mail: Limit };

/** How much is free, how fast it is forgotten, how long a block may last. docs/asvs.md explains the numbers. */
export const throttleLimits: ThrottleLimits = {
  pair: { capacity: 5, leakSeconds: 900, maxDelaySeconds: 900 },
  // A hospital behind one address has many people who mistype, and a login counts until it has succeeded.
  address: { capacity: 100, leakSeconds: 10, maxDelaySeconds: 300 },
  account: { capacity: 50, leakSeconds: 60, maxDelaySeconds: 0 },
  // Six digits are few: they block the account's codes from anywhere, which takes the password to bring about. Recovery codes still work.
  code: { capacity: 20, leakSeconds: 600, maxDelaySeconds: 900 },
  // Mails to one address.
  mail: { capacity: 3, leakSeconds: 600, maxDelaySeconds: 900 },
};

export type Attempt = {
  /** For `forgiveValues`, the most particular first. */
  keys: Buffer[];
  /** Everything was proved: what failed before from this address on this account is forgotten. */
  succeeded(): Promise<void>;
  /** It was neither a success nor a failure; it does not count, and what failed before still does. */
  undo(): Promise<void>;
};

export type Throttle = {
  /** Counts an attempt to prove a password. @throws AppError resource_exhausted with the seconds to wait */
  attempt(account: string, address: string): Promise<Attempt>;
  /** The same, and gives the account that has this e-mail address, read in the same round trip. */
  attemptAndRead(email: string, address: string): Promise<{ attempt: Attempt; account: Account | undefined }>;
  /** Counts a code of six digits for an account whose password was right. @throws AppError resource_exhausted with the seconds to wait */
  code(account: string): Promise<Attempt>;
  /** Counts a mail that somebody asked to be sent. @throws AppError resource_exhausted with the seconds to wait */
  mail(recipient: string, address: string): Promise<void>;
};

/** One thing to count, in each of its buckets; `email` is of the account to read beside it. */
type Counting = { buckets: Bucket[]; email?: string | undefined };
/** `account` is the bucket that leaves this one a single attempt while it is full. */
type Bucket = { key: Buffer; limit: Limit; account?: Buffer };
/** What came of it: the seconds to wait where it is refused, else 0. */
type Outcome = { wait: number; account: Account | undefined };

type CountedRow = {
  /** Buckets that were not blocked: how full they were before, how many were counted in which capacity, and how long they are blocked now. */
  counted: { key: string; level: number; count: number; capacity: number; wait: number }[] | null;
  /** Seconds for which buckets were blocked before. */
  blocked: Record<string, number> | null;
  /** By the e-mail addresses that were asked for. */
  accounts: Record<string, Account> | null;
};

const leaked = (row: string, at: string) =>
  `greatest(0, ${row}.level - greatest(0, extract(epoch from ${at} - ${row}.updated_at)::float8) / ${row}.leak_seconds)`;
/** Of those that came together, as many as would have been let in one by one: the one that makes it too full is the last. */
const fitting = (count: string, level: string, row: string) =>
  `case when ${row}.max_delay_seconds > 0 then least(${count}, greatest(1, floor(${row}.capacity - ${level}) + 1)) else ${count} end`;
const blockedUntil = (level: string, row: string, otherwise: string) =>
  `case when ${level} > ${row}.capacity and ${row}.max_delay_seconds > 0 then clock_timestamp() + make_interval(secs =>
    least(${row}.max_delay_seconds, power(2, least(30, ${level} - ${row}.capacity - 1)))) else ${otherwise} end`;
const secondsUntil = (time: string) => `extract(epoch from ${time} - clock_timestamp())::float8`;

/**
 * Counts in buckets, each once and by how many came together, and reads accounts. Rows are always taken in one order (by position:
 * pair, address, account), so that statements wait for each other but never in a circle. The account being under attack leaves
 * the pair a single attempt. The input is one text, because arrays were planned for their lengths, each time anew.
 */
const countStatement = (account: string) => ({
  name: "throttle_count",
  text: `
    with given as materialized (
      select position, decode(key, 'hex') as key, count, leak_seconds, max_delay_seconds,
        case when exists (select from throttles a where a.key = decode(account, 'hex') and ${leaked("a", "clock_timestamp()")} > $2)
          then 1 else capacity end as capacity
      from json_to_recordset($1)
        as g(position int, key text, account text, count float8, capacity float8, leak_seconds float8, max_delay_seconds float8)
    ), blocked as (
      select key, ${secondsUntil("blocked_until")} as wait from throttles
      where key = any(array(select key from given)) and blocked_until > clock_timestamp()
    ), counted as (
      insert into throttles as t (key, level, capacity, leak_seconds, max_delay_seconds, updated_at, blocked_until)
      select key, level, capacity, leak_seconds, max_delay_seconds, clock_timestamp(), ${blockedUntil("level", "g", "'epoch'")}
      from given g cross join lateral (select ${fitting("count", "0", "g")} as level) l order by position, key
      on conflict (key) do update set
        (level, blocked_until) = (
          select level, ${blockedUntil("level", "excluded", "t.blocked_until")}
          from (select ${leaked("t", "clock_timestamp()")} as before) b
          cross join lateral (select before + ${fitting("excluded.level", "before", "excluded")} as level) l),
        capacity = excluded.capacity, leak_seconds = excluded.leak_seconds, max_delay_seconds = excluded.max_delay_seconds,
        updated_at = clock_timestamp()
      -- Whoever came at the same moment and was counted first may have closed the door.
      where t.blocked_until <= clock_timestamp()
      returning encode(key, 'hex') as key, ${leaked("old", "new.updated_at")} as level, capacity, ${secondsUntil("blocked_until")} as wait,
        round(new.level - ${leaked("old", "new.updated_at")}) as count
    )
    select (select json_agg(counted) from counted) as counted,
      (select json_object_agg(encode(key, 'hex'), wait) from blocked) as blocked,
      (select json_object_agg(asked.email, found) from json_array_elements_text($3) as asked(email) cross join lateral (${account} offset 0) found)
        as accounts`,
});

/**
 * Clauses for a statement that takes attempts back in its own round trip, with the parameters for what `forgiveValues` gives.
 * Keys are looked up one by one: a join was planned as a scan of the table, however long it had grown since.
 */
export const forgiveClauses = (keys: string, counts: string, clears: string) => `
    attempted as materialized (
      select key from throttles where key = any(${keys}::bytea[]) order by array_position(${keys}, key) for update
    ), forgiven as (
      update throttles set (level, blocked_until) = (
        select case when cleared then 0 else greatest(0, level - count) end,
          case when cleared or level - count <= capacity then 'epoch' else blocked_until end
        from (select (${counts}::float8[])[array_position(${keys}, key)] as count, (${clears}::boolean[])[array_position(${keys}, key)] as cleared) f
      )
      where key = any(array(select key from attempted))
    )`;
const forgiveStatement = { name: "throttle_forgive", text: `with ${forgiveClauses("$1", "$2", "$3")} select` };

/**
 * What attempts counted, to be taken back: keys, how often each, and whether it is emptied, which the first keys are of
 * attempts that succeeded.
 */
export function forgiveValues(attempts: Pick<Attempt, "keys">[], succeeded: boolean): [Buffer[], number[], boolean[]] {
  const rows = inOrder(attempts.map(({ keys }) => keys.map((key) => ({ key }))));
  return [rows.map(({ key }) => key), rows.map(({ count }) => count), rows.map(({ position }) => succeeded && position === 0)];
}

/** Buckets of several attempts, each once, with how many of them have it, in the order in which every statement takes their rows. */
function inOrder<Bucket extends { key: Buffer }>(attempts: Bucket[][]): (Bucket & { position: number; count: number })[] {
  const found = new Map<string, Bucket & { position: number; count: number }>();
  for (const buckets of attempts)
    for (const [position, bucket] of buckets.entries()) {
      const name = `${position} ${bucket.key.toString("hex")}`;
      found.set(name, { ...bucket, position, count: (found.get(name)?.count ?? 0) + 1 });
    }
  return [...found].sort(([a], [b]) => (a < b ? -1 : 1)).map(([, row]) => row);
}

/** @param selectAccount the select that reads an account by an expression for its e-mail address */
export function createThrottle(options: {
  database: AuthDatabase;
  secret: Uint8Array;
  selectAccount: (email: string) => string;
  limits?: ThrottleLimits;
}): Throttle {
  const { database, secret, selectAccount, limits = throttleLimits } = options;
  const hmacKey = createSecretKey(secret);
  /** Keys are no e-mail addresses: what the table holds tells nobody who failed. */
  const keyOf = (kind: string, ...parts: string[]) =>
    createHmac("sha256", hmacKey)
      .update(JSON.stringify([kind, ...parts.map((part) => part.toLowerCase())]))
      .digest();

  const statement = countStatement(selectAccount("asked.email"));

  /** Counts what came together, each as if it had come alone: nothing of it counts where an earlier one has filled one of its buckets. */
  async function countTogether(countings: Counting[]): Promise<Outcome[]> {
    const given = inOrder(countings.map(({ buckets }) => buckets));
    const input = given.map(({ key, position, count, account, limit }) => ({
      ...{ position, key: key.toString("hex"), account: account?.toString("hex"), count },
      ...{ capacity: limit.capacity, leak_seconds: limit.leakSeconds, max_delay_seconds: limit.maxDelaySeconds },
    }));
    const emails = [...new Set(countings.flatMap(({ email }) => email ?? []))];
    const [row] = await database.query<CountedRow>(statement, [JSON.stringify(input), limits.account.capacity, JSON.stringify(emails)]);
    const counted = new Map(row?.counted?.map((bucket) => [bucket.key, { ...bucket, admitted: 0 }]));
    const countedIn = (key: Buffer) => counted.get(key.toString("hex"));

    function waitAt({ key, limit }: Bucket): number {
      const bucket = countedIn(key);
      // A block that ended while the statement ran has none left, and still nothing was counted there.
      if (!bucket) return Math.max(1, row?.blocked?.[key.toString("hex")] ?? 0);
      const isFull = limit.maxDelaySeconds > 0 && bucket.admitted > 0 && bucket.level + bucket.admitted > bucket.capacity;
      return isFull ? Math.max(1, bucket.wait) : 0;
    }
    const outcomes = countings.map(({ buckets, email }): Outcome => {
      const wait = Math.max(...buckets.map(waitAt));
      if (wait === 0)
        for (const { key } of buckets) {
          const bucket = countedIn(key);
          if (bucket) bucket.admitted++;
        }
      return { wait, account: email === undefined ? undefined : row?.accounts?.[email] };
    });

    // What was counted for those that are refused, in whatever bucket did not refuse them.
    const over = given.flatMap(({ key }) => {
      const bucket = countedIn(key);
      return bucket && bucket.count > bucket.admitted ? [{ key, count: bucket.count - bucket.admitted }] : [];
    });
    if (over.length > 0)
      await database.query(forgiveStatement, [over.map(({ key }) => key), over.map(({ count }) => count), over.map(() => false)]);
    return outcomes;
  }

  // Sign-ins come in bursts, and wait for each other at the bucket of an address that they share: together they wait less.
  const countings = createBatcher<Counting, Outcome>({ maxSize: 64, run: countTogether });

  /** @throws AppError resource_exhausted with the seconds to wait */
  async function count(counting: Counting): Promise<Outcome> {
    const outcome = await countings.add(counting);
    if (outcome.wait === 0) return outcome;
    const wait = Math.ceil(outcome.wait);
    throw new AppError("resource_exhausted", `Too many attempts. Try again in ${wait} s.`, { retryAfterSeconds: wait });
  }

  function attemptAt(account: string, address: string) {
    const everywhere = keyOf("account", account);
    const buckets: Bucket[] = [
      { key: keyOf("pair", account, address), limit: limits.pair, account: everywhere },
      { key: keyOf("address", address), limit: limits.address },
      { key: everywhere, limit: limits.account },
    ];
    const keys = buckets.map(({ key }) => key);
    const forgive = async (all: boolean) => void (await database.query(forgiveStatement, forgiveValues([{ keys }], all)));
    return { buckets, attempt: { keys, succeeded: () => forgive(true), undo: () => forgive(false) } };
  }

  return {
    async attempt(account, address) {
      const { buckets, attempt } = attemptAt(account, address);
      await count({ buckets });
      return attempt;
    },
    async attemptAndRead(email, address) {
      const { buckets, attempt } = attemptAt(email, address);
      return { attempt, account: (await count({ buckets, email })).account };
    },
    async code(account) {
      const key = keyOf("code", account);
      await count({ buckets: [{ key, limit: limits.code }] });
      const undo = async () => void (await database.query(forgiveStatement, forgiveValues([{ keys: [key] }], false)));
      return { keys: [key], succeeded: undo, undo };
    },
    async mail(recipient, address) {
      const buckets = [
        { key: keyOf("mail", recipient), limit: limits.mail },
        { key: keyOf("address", address), limit: limits.address },
      ];
      await count({ buckets });
    },
  };
}

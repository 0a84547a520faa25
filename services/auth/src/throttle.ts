/**
 * Slows down guessing, in Postgres so that replicas agree. Attempts are counted before they are made and taken back when
 * they succeed, so that a thousand at once are a thousand.
 *
 * Three buckets leak as time passes: of this account from this address, of this address, and of this account from anywhere.
 * The first two block, for twice as long with every further failure. The third never blocks, because then anybody could lock
 * the owner out; while it is full, an address that is new to the account has one attempt instead of five before the first
 * bucket blocks it. Accounts are counted by the address that was typed, whether it exists or not.
 */
import { createHmac, createSecretKey } from "node:crypto";
import { AppError } from "@pm/kit/errors";
import type { AuthDatabase } from "./schema.ts";

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
  /** Counts an attempt to prove a password or code. @throws AppError resource_exhausted with the seconds to wait */
  attempt(account: string, address: string): Promise<Attempt>;
  /** The same, and gives what was read beside it; columns are null where there is no such row. */
  attemptAndRead<Row>(account: string, address: string, beside: Beside): Promise<{ attempt: Attempt; row: Row }>;
  /** Counts a code of six digits for an account whose password was right. @throws AppError resource_exhausted with the seconds to wait */
  code(account: string): Promise<Attempt>;
  /** Counts a mail that somebody asked to be sent. @throws AppError resource_exhausted with the seconds to wait */
  mail(recipient: string, address: string): Promise<void>;
};

type Bucket = { key: Buffer; limit: Limit };

/** What to read beside an attempt, in the same round trip: a select of at most one row, with the parameter $6. */
export type Beside = { name: string; select: string; value: unknown };

// Nothing is counted while a block lasts. Rows are always taken in one order (pair, address, account), so that attempts wait
// for each other but never in a circle. The account (3) being under attack leaves the pair (1) a single attempt.
const attemptClauses = `
    before as (
      select array_position($1, key) as position, greatest(0, level - extract(epoch from clock_timestamp() - updated_at)::float8 / leak_seconds) as level,
        extract(epoch from blocked_until - clock_timestamp())::float8 as wait
      from throttles where key = any($1)
    ), counted as (
      insert into throttles as t (key, level, capacity, leak_seconds, max_delay_seconds, updated_at, blocked_until)
      select key, 1, case when position = 1 and exists (select from before where before.position = 3 and level > $5::float8) then 1 else capacity end,
        leak, most, clock_timestamp(), 'epoch'
      from unnest($1::bytea[], $2::float8[], $3::float8[], $4::float8[]) with ordinality as given (key, capacity, leak, most, position)
      where not exists (select from before where wait > 0)
      order by position
      on conflict (key) do update set
        (level, blocked_until) = (
          select counted, case when counted > excluded.capacity and excluded.max_delay_seconds > 0
            then clock_timestamp() + make_interval(secs => least(excluded.max_delay_seconds, power(2, least(30, counted - excluded.capacity - 1))))
            else t.blocked_until end
          from (select greatest(0, t.level - greatest(0, extract(epoch from clock_timestamp() - t.updated_at)::float8) / t.leak_seconds) + 1 as counted) c),
        capacity = excluded.capacity, leak_seconds = excluded.leak_seconds, max_delay_seconds = excluded.max_delay_seconds,
        updated_at = clock_timestamp()
      -- Whoever came at the same moment and was counted first may have closed the door.
      returning extract(epoch from old.blocked_until - clock_timestamp())::float8 as wait
    ), attempt as (
      select max(wait) as throttle_wait from (select wait from before union all select wait from counted) waits
    )`;
const attemptStatement = { name: "throttle_attempt", text: `with ${attemptClauses} select throttle_wait from attempt` };

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
 * attempts that succeeded. Rows are taken in the order in which every attempt takes them.
 */
export function forgiveValues(attempts: Pick<Attempt, "keys">[], succeeded: boolean): [Buffer[], number[], boolean[]] {
  const found = new Map<string, { key: Buffer; position: number; count: number }>();
  for (const { keys } of attempts)
    for (const [position, key] of keys.entries()) {
      const name = `${position} ${key.toString("hex")}`;
      found.set(name, { key, position, count: (found.get(name)?.count ?? 0) + 1 });
    }
  const rows = [...found].sort(([a], [b]) => (a < b ? -1 : 1)).map(([, row]) => row);
  return [rows.map(({ key }) => key), rows.map(({ count }) => count), rows.map(({ position }) => succeeded && position === 0)];
}

export function createThrottle(options: { database: AuthDatabase; secret: Uint8Array; limits?: ThrottleLimits }): Throttle {
  const { database, secret, limits = throttleLimits } = options;
  const hmacKey = createSecretKey(secret);
  /** Keys are no e-mail addresses: what the table holds tells nobody who failed. */
  const keyOf = (kind: string, ...parts: string[]) =>
    createHmac("sha256", hmacKey)
      .update(JSON.stringify([kind, ...parts.map((part) => part.toLowerCase())]))
      .digest();

  function refuse(seconds: number): never {
    const wait = Math.max(1, Math.ceil(seconds));
    throw new AppError("resource_exhausted", `Too many attempts. Try again in ${wait} s.`, { retryAfterSeconds: wait });
  }

  /** Counts in all buckets, or in none where one of them is blocked. */
  async function count<Row>(buckets: Bucket[], beside?: Beside): Promise<Row | undefined> {
    const values = [
      buckets.map(({ key }) => key),
      buckets.map(({ limit }) => limit.capacity),
      buckets.map(({ limit }) => limit.leakSeconds),
      buckets.map(({ limit }) => limit.maxDelaySeconds),
      limits.account.capacity,
    ];
    const statement = beside
      ? {
          name: beside.name,
          text: `with ${attemptClauses} select found.*, throttle_wait from attempt left join (${beside.select}) found on true`,
        }
      : attemptStatement;
    const [row] = await database.query<Row & { throttle_wait: number | null }>(statement, beside ? [...values, beside.value] : values);
    const wait = row?.throttle_wait ?? 0;
    if (wait > 0) refuse(wait);
    return row;
  }

  function attemptAt(account: string, address: string) {
    const buckets = [
      { key: keyOf("pair", account, address), limit: limits.pair },
      { key: keyOf("address", address), limit: limits.address },
      { key: keyOf("account", account), limit: limits.account },
    ];
    const keys = buckets.map(({ key }) => key);
    const forgive = async (all: boolean) => void (await database.query(forgiveStatement, forgiveValues([{ keys }], all)));
    return { buckets, attempt: { keys, succeeded: () => forgive(true), undo: () => forgive(false) } };
  }

  return {
    async attempt(account, address) {
      const { buckets, attempt } = attemptAt(account, address);
      await count(buckets);
      return attempt;
    },
    async attemptAndRead<Row>(account: string, address: string, beside: Beside) {
      const { buckets, attempt } = attemptAt(account, address);
      return { attempt, row: (await count<Row>(buckets, beside)) as Row };
    },
    async code(account) {
      const key = keyOf("code", account);
      await count([{ key, limit: limits.code }]);
      const undo = async () => void (await database.query(forgiveStatement, forgiveValues([{ keys: [key] }], false)));
      return { keys: [key], succeeded: undo, undo };
    },
    async mail(recipient, address) {
      await count([
        { key: keyOf("mail", recipient), limit: limits.mail },
        { key: keyOf("address", address), limit: limits.address },
      ]);
    },
  };
}

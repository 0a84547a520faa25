/**
 * Slows down guessing, in Postgres so that replicas agree. Attempts are counted before they are made and taken back when
 * they succeed, so that a thousand at once are a thousand.
 *
 * Three buckets leak as time passes: of this account from this address, of this address, and of this account from anywhere.
 * The first two block, for twice as long with every further failure. The third never blocks, because then anybody could lock
 * the owner out; while it is full, an address that is new to the account has one attempt instead of five before the first
 * bucket blocks it. Accounts are counted by the address that was typed, whether it exists or not.
 */
import { createHmac } from "node:crypto";
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
  /** Everything was proved: what failed before from this address on this account is forgotten. */
  succeeded(): Promise<void>;
  /** It was neither a success nor a failure; it does not count, and what failed before still does. */
  undo(): Promise<void>;
};

export type Throttle = {
  /** Counts an attempt to prove a password or code. @throws AppError resource_exhausted with the seconds to wait */
  attempt(account: string, address: string): Promise<Attempt>;
  /** Counts a code of six digits for an account whose password was right. @throws AppError resource_exhausted with the seconds to wait */
  code(account: string): Promise<Attempt>;
  /** Counts a mail that somebody asked to be sent. @throws AppError resource_exhausted with the seconds to wait */
  mail(recipient: string, address: string): Promise<void>;
};

type Bucket = { key: Buffer; limit: Limit };

const readStatement = {
  name: "throttle_read",
  text: `select key, greatest(0, level - extract(epoch from clock_timestamp() - updated_at)::float8 / leak_seconds) as level,
      extract(epoch from blocked_until - clock_timestamp())::float8 as wait
    from throttles where key = any($1)`,
};

// Rows are always taken in one order (pair, address, account), so that attempts wait for each other but never in a circle.
const countStatement = {
  name: "throttle_count",
  text: `
    insert into throttles as t (key, level, capacity, leak_seconds, max_delay_seconds, updated_at, blocked_until)
    select key, 1, capacity, leak, most, clock_timestamp(), 'epoch'
    from unnest($1::bytea[], $2::float8[], $3::float8[], $4::float8[]) with ordinality as given (key, capacity, leak, most, position)
    order by position
    on conflict (key) do update set
      (level, blocked_until) = (
        select counted, case when counted > excluded.capacity and excluded.max_delay_seconds > 0
          then clock_timestamp() + make_interval(secs => least(excluded.max_delay_seconds, power(2, least(30, counted - excluded.capacity - 1))))
          else t.blocked_until end
        from (select greatest(0, t.level - greatest(0, extract(epoch from clock_timestamp() - t.updated_at)::float8) / t.leak_seconds) + 1 as counted) c),
      capacity = excluded.capacity, leak_seconds = excluded.leak_seconds, max_delay_seconds = excluded.max_delay_seconds,
      updated_at = clock_timestamp()
    returning extract(epoch from old.blocked_until - clock_timestamp())::float8 as wait`,
};

const forgiveStatement = {
  name: "throttle_forgive",
  text: `
    with locked as materialized (
      select t.key, position from unnest($1::bytea[]) with ordinality as given (key, position) join throttles t on t.key = given.key
      order by position for update of t
    )
    update throttles t set level = case when position = 1 and $2 then 0 else greatest(0, level - 1) end,
      blocked_until = case when (position = 1 and $2) or level - 1 <= capacity then 'epoch' else blocked_until end
    from locked where locked.key = t.key`,
};

export function createThrottle(options: { database: AuthDatabase; secret: Uint8Array; limits?: ThrottleLimits }): Throttle {
  const { database, secret, limits = throttleLimits } = options;
  /** Keys are no e-mail addresses: what the table holds tells nobody who failed. */
  const keyOf = (kind: string, ...parts: string[]) =>
    createHmac("sha256", secret)
      .update(JSON.stringify([kind, ...parts.map((part) => part.toLowerCase())]))
      .digest();

  function refuse(seconds: number): never {
    const wait = Math.max(1, Math.ceil(seconds));
    throw new AppError("resource_exhausted", `Too many attempts. Try again in ${wait} s.`, { retryAfterSeconds: wait });
  }

  async function count(buckets: Bucket[]): Promise<void> {
    const values = [
      buckets.map(({ key }) => key),
      buckets.map(({ limit }) => limit.capacity),
      buckets.map(({ limit }) => limit.leakSeconds),
      buckets.map(({ limit }) => limit.maxDelaySeconds),
    ];
    const rows = await database.query<{ wait: number | null }>(countStatement, values);
    // Whoever came at the same moment and was counted first may have closed the door.
    const wait = Math.max(0, ...rows.map((row) => row.wait ?? 0));
    if (wait > 0) refuse(wait);
  }

  async function levels(keys: Buffer[]): Promise<Map<string, number>> {
    const rows = await database.query<{ key: Buffer; level: number; wait: number }>(readStatement, [keys]);
    const wait = Math.max(0, ...rows.map((row) => row.wait));
    if (wait > 0) refuse(wait);
    return new Map(rows.map((row) => [row.key.toString("hex"), row.level]));
  }

  return {
    async attempt(account, address) {
      const pair = keyOf("pair", account, address);
      const here = keyOf("address", address);
      const everywhere = keyOf("account", account);
      const known = await levels([pair, here, everywhere]);
      const underAttack = (known.get(everywhere.toString("hex")) ?? 0) > limits.account.capacity;
      const pairLimit = underAttack ? { ...limits.pair, capacity: 1 } : limits.pair;
      await count([
        { key: pair, limit: pairLimit },
        { key: here, limit: limits.address },
        { key: everywhere, limit: limits.account },
      ]);
      const forgive = async (all: boolean) => void (await database.query(forgiveStatement, [[pair, here, everywhere], all]));
      return { succeeded: () => forgive(true), undo: () => forgive(false) };
    },
    async code(account) {
      const key = keyOf("code", account);
      await levels([key]);
      await count([{ key, limit: limits.code }]);
      const undo = async () => void (await database.query(forgiveStatement, [[key], false]));
      return { succeeded: undo, undo };
    },
    async mail(recipient, address) {
      const buckets = [
        { key: keyOf("mail", recipient), limit: limits.mail },
        { key: keyOf("address", address), limit: limits.address },
      ];
      await levels(buckets.map(({ key }) => key));
      await count(buckets);
    },
  };
}

/** The buckets of the throttle in Postgres: counting attempts, and taking counts back. */
import { emailKey } from "@pm/kit/email";
import type { AuthDatabase } from "../tables.ts";
import { type Account, selectAccount } from "../users/account-lookup-store.ts";

/** How many attempts are free, in how many seconds one is forgotten, and how long a block lasts at most. */
export type Limit = { capacity: number; leakSeconds: number; maxDelaySeconds: number };

/** `account` is the bucket that leaves this one a single attempt while it is full. */
export type Bucket = { key: Buffer; limit: Limit; account?: Buffer };

/** An attempt that was counted: the keys of its buckets, the most specific first. */
export type Counted = { keys: Buffer[] };

export type CountedRow = {
  /**
   * Buckets that were not blocked: how full they were, how many attempts were counted, and for how many seconds they
   * are blocked now.
   */
  counted: { key: string; level: number; count: number; capacity: number; wait: number }[] | null;
  /** The seconds for which other buckets are still blocked. */
  blocked: Record<string, number> | null;
  /** Accounts by the e-mail addresses that were asked for. */
  accounts: Record<string, Account> | null;
};

const leaked = (row: string, at: string) =>
  `greatest(0, ${row}.level - greatest(0, extract(epoch from ${at} - ${row}.updated_at)::float8) / ${row}.leak_seconds)`;
/** How many of the attempts that arrived together would be let in one by one. The last of them overfills the bucket. */
const fitting = (count: string, level: string, row: string) =>
  `case when ${row}.max_delay_seconds > 0 then least(${count}, greatest(1, floor(${row}.capacity - ${level}) + 1)) else ${count} end`;
const blockedUntil = (level: string, row: string, otherwise: string) =>
  `case when ${level} > ${row}.capacity and ${row}.max_delay_seconds > 0 then clock_timestamp() + make_interval(secs =>
    least(${row}.max_delay_seconds, power(2, least(30, ${level} - ${row}.capacity - 1)))) else ${otherwise} end`;
const secondsUntil = (time: string) => `extract(epoch from ${time} - clock_timestamp())::float8`;

/**
 * Counts in each bucket how many attempts arrived together, and reads accounts. All statements take the rows in the
 * same order (by position: pair, address, account), so that they never wait for each other in a circle. While an
 * account is under attack, its pairs have a single attempt. The input is one JSON text, because Postgres planned arrays
 * of each length anew.
 */
const countStatement = {
  name: "throttle_count",
  text: `
    with given as materialized (
      select position, decode(key, 'hex') as key, count, leak_seconds, max_delay_seconds,
        case when exists (select from throttles a where a.key = decode(account, 'hex') and ${leaked("a", "clock_timestamp()")} > a.capacity)
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
      -- A statement that counted first may have blocked the bucket.
      where t.blocked_until <= clock_timestamp()
      returning encode(key, 'hex') as key, ${leaked("old", "new.updated_at")} as level, capacity, ${secondsUntil("blocked_until")} as wait,
        round(new.level - ${leaked("old", "new.updated_at")}) as count
    )
    select (select json_agg(counted) from counted) as counted,
      (select json_object_agg(encode(key, 'hex'), wait) from blocked) as blocked,
      (select json_object_agg(asked.email, found) from json_to_recordset($2) as asked(key text, email text)
        cross join lateral (${selectAccount("asked.key", "asked.email")}) found) as accounts`,
};

/** Counts attempts that arrived together, and reads the accounts of e-mail addresses in the same round trip. */
export async function countAttempts(
  db: AuthDatabase,
  buckets: ReturnType<typeof groupBuckets<Bucket>>,
  emails: string[],
): Promise<CountedRow | undefined> {
  const input = buckets.map(({ key, position, count, account, limit }) => ({
    ...{ position, key: key.toString("hex"), account: account?.toString("hex"), count },
    ...{ capacity: limit.capacity, leak_seconds: limit.leakSeconds, max_delay_seconds: limit.maxDelaySeconds },
  }));
  const asked = emails.map((email) => ({ key: emailKey(email), email }));
  const rows = await db.query<CountedRow>(countStatement, [JSON.stringify(input), JSON.stringify(asked)]);
  return rows[0];
}

/**
 * Clauses that take counts back, for a statement that has something else to do too. The parameters are what
 * `forgiveValues` returns. Keys are looked up one by one: a join was planned as a scan of the table, however long the
 * table had become.
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

/** Keys of buckets, how often each was counted, and whether it is emptied. */
type ForgiveValues = [Buffer[], number[], boolean[]];

/** What attempts counted, to be taken back. A success also empties its first, most specific bucket. */
export function forgiveValues(attempts: Counted[], succeeded: boolean): ForgiveValues {
  const rows = groupBuckets(attempts.map(({ keys }) => keys.map((key) => ({ key }))));
  return [rows.map(({ key }) => key), rows.map(({ count }) => count), rows.map(({ position }) => succeeded && position === 0)];
}

/** Takes counts back. */
export async function forgive(db: AuthDatabase, values: ForgiveValues): Promise<void> {
  await db.query(forgiveStatement, values);
}

/** The buckets of several attempts, with their numbers of attempts, in the order in which all statements lock rows. */
export function groupBuckets<Keyed extends { key: Buffer }>(attempts: Keyed[][]): (Keyed & { position: number; count: number })[] {
  const found = new Map<string, Keyed & { position: number; count: number }>();
  for (const buckets of attempts)
    for (const [position, bucket] of buckets.entries()) {
      const name = `${position} ${bucket.key.toString("hex")}`;
      found.set(name, { ...bucket, position, count: (found.get(name)?.count ?? 0) + 1 });
    }
  return [...found].sort(([a], [b]) => (a < b ? -1 : 1)).map(([, row]) => row);
}

/** Second factors, one-time links, and the throttle of password guessing. */
import { type Kysely, sql } from "kysely";

export async function up(db: Kysely<unknown>): Promise<void> {
  // `last_step` is the time step of the last used code. A code that somebody watched cannot be used a second time.
  await sql`
    create table second_factors (
      user_id uuid primary key references users,
      sealed_secret bytea not null,
      confirmed_at timestamptz,
      last_step bigint not null default 0,
      created_at timestamptz not null default now()
    )`.execute(db);
  // Hashes of 120 random bits. They need no salt.
  await sql`
    create table recovery_codes (
      user_id uuid not null references users,
      hash bytea not null,
      used_at timestamptz,
      primary key (user_id, hash)
    )`.execute(db);

  // One row per mailed link. A used link is a deleted row. `email` is the address that the mail went to; for a change
  // of address, it is the new one. `name` and `password_hash` are those of a signup: an account that is not confirmed
  // does not exist yet, so that nobody can occupy somebody else's address.
  await sql`
    create table links (
      hash bytea primary key,
      purpose text not null,
      user_id uuid references users,
      email citext not null,
      name text,
      password_hash text,
      created_at timestamptz not null default now(),
      expires_at timestamptz not null
    )`.execute(db);
  await sql`create index links_by_user on links (user_id)`.execute(db);
  await sql`create index links_by_expiry on links (expires_at)`.execute(db);

  // Failed attempts as leaky buckets. Unlogged: counting does not wait for the disk, and starts anew after a crash.
  await sql`
    create unlogged table throttles (
      key bytea primary key,
      level double precision not null,
      capacity double precision not null,
      leak_seconds double precision not null,
      max_delay_seconds double precision not null,
      updated_at timestamptz not null,
      blocked_until timestamptz not null
    ) with (fillfactor = 50)`.execute(db);

  await sql`grant select, insert, update, delete on second_factors, recovery_codes, links, throttles to auth`.execute(db);
}

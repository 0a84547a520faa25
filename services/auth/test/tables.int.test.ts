import { auditTables, outboxTables, readTables, type TableDescriptions } from "@pm/kit/test/tables";
import { expect, test } from "vitest";
import type { AuthTables } from "../src/tables.ts";

test("the types of the tables match the migrations", async () => {
  const tables: TableDescriptions<AuthTables> = {
    ...auditTables,
    ...outboxTables,
    users: {
      id: "uuid default",
      email: "citext",
      email_key: "text null",
      name: "text",
      roles: "text[]",
      password_hash: "text null",
      disabled_at: "timestamptz null",
      created_at: "timestamptz default",
      updated_at: "timestamptz default",
    },
    teams: { id: "uuid default", name: "citext", created_at: "timestamptz default" },
    team_members: { team_id: "uuid", user_id: "uuid", added_at: "timestamptz default" },
    sessions: {
      id: "uuid",
      user_id: "uuid",
      address: "text",
      user_agent: "text",
      second_factor: "boolean default",
      created_at: "timestamptz default",
      last_used_at: "timestamptz default",
      expires_at: "timestamptz",
      revoked_at: "timestamptz null",
      revoked_because: "text null",
    },
    refresh_tokens: {
      hash: "bytea",
      session_id: "uuid",
      created_at: "timestamptz default",
      used_at: "timestamptz null",
      sealed_answer: "bytea null",
    },
    signing_keys: {
      kid: "text",
      public_jwk: "jsonb",
      sealed_private_jwk: "bytea",
      active_from: "timestamptz",
      created_at: "timestamptz default",
    },
    second_factors: {
      user_id: "uuid",
      sealed_secret: "bytea",
      confirmed_at: "timestamptz null",
      last_step: "bigint default",
      created_at: "timestamptz default",
    },
    recovery_codes: { user_id: "uuid", hash: "bytea", used_at: "timestamptz null" },
    links: {
      hash: "bytea",
      purpose: "text",
      user_id: "uuid null",
      email: "citext",
      name: "text null",
      password_hash: "text null",
      created_at: "timestamptz default",
      expires_at: "timestamptz",
    },
    throttles: {
      key: "bytea",
      level: "double precision",
      capacity: "double precision",
      leak_seconds: "double precision",
      max_delay_seconds: "double precision",
      updated_at: "timestamptz",
      blocked_until: "timestamptz",
    },
  };
  expect(await readTables("auth")).toEqual(tables);
});

/** The tables of auth, as kysely and the store see them. What a column means stands in the migrations. */

import type { AuditTables } from "@pm/kit/audit/audit";
import type { Role } from "@pm/kit/auth/access";
import type { OutboxTables } from "@pm/kit/kafka/outbox";
import type { Database } from "@pm/kit/postgres/database";
import type { JWK } from "jose";
import type { ColumnType, Generated, Insertable, JSONColumnType, Transaction } from "kysely";

/** What a link that was sent by mail is for. */
export type LinkPurpose = "invite" | "signup" | "password_reset" | "email_change";

export type UsersTable = {
  id: Generated<string>;
  email: string;
  name: string;
  roles: Role[];
  password_hash: string | null;
  disabled_at: Date | null;
  created_at: Generated<Date>;
  updated_at: Generated<Date>;
};

export type SessionsTable = {
  id: string;
  user_id: string;
  address: string;
  user_agent: string;
  second_factor: Generated<boolean>;
  created_at: Generated<Date>;
  last_used_at: Generated<Date>;
  expires_at: Date;
  revoked_at: Date | null;
  revoked_because: string | null;
};

export type RefreshTokensTable = {
  hash: Buffer;
  session_id: string;
  created_at: Generated<Date>;
  used_at: Date | null;
  sealed_answer: Buffer | null;
};

export type SigningKeysTable = {
  kid: string;
  public_jwk: JSONColumnType<JWK>;
  sealed_private_jwk: Buffer;
  active_from: Date;
  created_at: Generated<Date>;
};

export type AuthTables = {
  users: UsersTable;
  teams: { id: Generated<string>; name: string; created_at: Generated<Date> };
  team_members: { team_id: string; user_id: string; added_at: Generated<Date> };
  sessions: SessionsTable;
  refresh_tokens: RefreshTokensTable;
  signing_keys: SigningKeysTable;
  second_factors: {
    user_id: string;
    sealed_secret: Buffer;
    confirmed_at: Date | null;
    last_step: ColumnType<bigint, bigint | number | undefined, bigint | number>;
    created_at: Generated<Date>;
  };
  recovery_codes: { user_id: string; hash: Buffer; used_at: Date | null };
  links: {
    hash: Buffer;
    purpose: LinkPurpose;
    user_id: string | null;
    email: string;
    name: string | null;
    password_hash: string | null;
    created_at: Generated<Date>;
    expires_at: Date;
  };
  throttles: { key: Buffer; level: number; updated_at: Date; leak_seconds: number };
} & AuditTables &
  OutboxTables;

export type AuditRow = Insertable<AuthTables["audit_entries"]>;
export type OutboxRow = Insertable<AuthTables["outbox"]>;

export type AuthDatabase = Database<AuthTables>;
export type AuthTransaction = Transaction<AuthTables>;

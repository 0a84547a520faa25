/** The tables of auth, as kysely and the store see them. What a column means stands in the migrations. */
import type { Role } from "@pm/kit/access";
import type { AuditEntriesTable } from "@pm/kit/audit";
import type { Database } from "@pm/kit/db";
import type { OutboxTable } from "@pm/kit/outbox";
import type { JWK } from "jose";
import type { Generated, JSONColumnType, Transaction } from "kysely";

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
  outbox: OutboxTable;
  audit_entries: AuditEntriesTable;
};

export type AuthDatabase = Database<AuthTables>;
export type AuthTransaction = Transaction<AuthTables>;

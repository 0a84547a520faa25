/** The tables of auth as types. The migrations explain the columns. */
import type { AuditTables } from "@pm/kit/audit/audit";
import type { ClientScope, Role } from "@pm/kit/auth/access";
import type { CheckTables } from "@pm/kit/checks";
import type { OutboxTables } from "@pm/kit/kafka/outbox";
import type { Database } from "@pm/kit/postgres/database";
import type { Transaction } from "@pm/kit/postgres/transaction";
import type { JSONWebKeySet, JWK } from "jose";
import type { ColumnType, Generated, JSONColumnType } from "kysely";

/** What a mailed link is for. */
export type LinkPurpose = "invite" | "signup" | "password_reset" | "email_change";

export type AuthTables = {
  users: {
    id: Generated<string>;
    email: string;
    email_key: string | null;
    name: string;
    roles: Role[];
    password_hash: string | null;
    disabled_at: Date | null;
    created_at: Generated<Date>;
    updated_at: Generated<Date>;
  };
  teams: { id: Generated<string>; name: string; created_at: Generated<Date> };
  team_members: { team_id: string; user_id: string; added_at: Generated<Date> };
  sessions: {
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
  refresh_tokens: {
    hash: Buffer;
    session_id: string;
    created_at: Generated<Date>;
    used_at: Date | null;
    sealed_answer: Buffer | null;
  };
  api_clients: {
    id: Generated<string>;
    name: string;
    scopes: ClientScope[];
    team_id: string | null;
    secret_hash: Buffer | null;
    jwks: JSONColumnType<JSONWebKeySet> | null;
    session_id: Generated<string>;
    disabled_at: Date | null;
    last_used_at: Date | null;
    created_at: Generated<Date>;
    updated_at: Generated<Date>;
  };
  client_assertions: { client_id: string; jti_hash: Buffer; expires_at: Date };
  ended_client_sessions: { id: string; ended_at: Generated<Date> };
  signing_keys: {
    kid: string;
    public_jwk: JSONColumnType<JWK>;
    sealed_private_jwk: Buffer;
    active_from: Date;
    created_at: Generated<Date>;
  };
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
  throttles: {
    key: Buffer;
    level: number;
    capacity: number;
    leak_seconds: number;
    max_delay_seconds: number;
    updated_at: Date;
    blocked_until: Date;
  };
} & AuditTables &
  CheckTables &
  OutboxTables;

export type AuthDatabase = Database<AuthTables>;
export type AuthTransaction = Transaction<AuthTables>;
/** For queries inside or outside a transaction. */
export type AuthQueries = Pick<AuthDatabase, "kysely">;

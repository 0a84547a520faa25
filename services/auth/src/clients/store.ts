/** API clients in Postgres. */
import { AppError, invalidFields } from "@pm/kit/errors";
import { violatedConstraint } from "@pm/kit/postgres/database";
import type { JSONWebKeySet } from "jose";
import { type Insertable, type Selectable, sql } from "kysely";
import type { AuthDatabase, AuthQueries, AuthTables, AuthTransaction } from "../tables.ts";

export type ClientRow = Omit<Selectable<AuthTables["api_clients"]>, "secret_hash" | "session_id">;

const columns = ["id", "name", "scopes", "team_id", "jwks", "disabled_at", "last_used_at", "created_at", "updated_at"] as const;

/** In the order in which they were registered. */
export async function listClients({ kysely }: AuthQueries, page: { after: string | undefined; limit: number }): Promise<ClientRow[]> {
  const query = kysely.selectFrom("api_clients").select(columns).orderBy("id").limit(page.limit);
  return (page.after === undefined ? query : query.where("id", ">", page.after)).execute();
}

export async function findClient({ kysely }: AuthQueries, id: string): Promise<ClientRow | undefined> {
  return kysely.selectFrom("api_clients").select(columns).where("id", "=", id).executeTakeFirst();
}

export async function lockClient({ kysely }: AuthTransaction, id: string): Promise<ClientRow | undefined> {
  return kysely.selectFrom("api_clients").select(columns).where("id", "=", id).forUpdate().executeTakeFirst();
}

type Values = Pick<Insertable<AuthTables["api_clients"]>, "name" | "scopes" | "team_id" | "secret_hash"> & { jwks: JSONWebKeySet | null };
export type ClientChange = Partial<Values & { disabled_at: Date | null }>;

const jsonOf = (jwks: JSONWebKeySet | null) => jwks && JSON.stringify(jwks);

/** Returns the id. @throws AppError already_exists for another client's name, invalid_argument for an unknown team */
export async function insertClient({ kysely }: AuthTransaction, { jwks, ...client }: Values): Promise<string> {
  const query = kysely.insertInto("api_clients").values({ ...client, jwks: jsonOf(jwks) });
  return (await query.returning("id").executeTakeFirstOrThrow().catch(wrongValue)).id;
}

/** @throws AppError as `insertClient` does */
export async function updateClient({ kysely }: AuthTransaction, id: string, { jwks, ...change }: ClientChange): Promise<void> {
  const values = { ...change, ...(jwks !== undefined && { jwks: jsonOf(jwks) }), updated_at: sql<Date>`now()` };
  await kysely.updateTable("api_clients").set(values).where("id", "=", id).execute().catch(wrongValue);
}

export async function deleteClient({ kysely }: AuthTransaction, id: string): Promise<void> {
  await kysely.deleteFrom("api_clients").where("id", "=", id).execute();
}

function wrongValue(error: unknown): never {
  const constraint = violatedConstraint(error);
  if (constraint === "api_clients_team") throw invalidFields([{ path: "teamId", message: "is no team; GET /auth/teams lists them" }]);
  if (constraint !== "api_clients_name_unique") throw error;
  const message = "is the name of another API client";
  throw new AppError("already_exists", `name: ${message}`, { errors: [{ path: "name", message }], cause: error });
}

const endStatement = {
  name: "end_client_sessions",
  text: `
    with clients as (
      update api_clients set session_id = gen_random_uuid() where id = $1 or team_id = $2
      returning new.id as "clientId", old.session_id as "sessionId"
    ), ended as (
      insert into ended_client_sessions (id) select "sessionId" from clients
    )
    select "clientId", "sessionId" from clients`,
};

/** Makes the tokens of one client void, or of all clients of a team. Returns the `sid` that they had. */
export async function endClientSessions(
  tx: AuthTransaction,
  of: { clientId?: string; teamId?: string },
): Promise<{ clientId: string; sessionId: string }[]> {
  return tx.query(endStatement, [of.clientId ?? null, of.teamId ?? null]);
}

/** What a client proves itself by, and what its tokens say. */
export type ClientCredentials = Pick<
  Selectable<AuthTables["api_clients"]>,
  "id" | "scopes" | "team_id" | "secret_hash" | "jwks" | "session_id"
>;

/** Undefined if the client is disabled or does not exist. */
export async function findCredentials({ kysely }: AuthDatabase, id: string): Promise<ClientCredentials | undefined> {
  return kysely
    .selectFrom("api_clients")
    .select(["id", "scopes", "team_id", "secret_hash", "jwks", "session_id"])
    .where("id", "=", id)
    .where("disabled_at", "is", null)
    .executeTakeFirst();
}

/** Notes that a client gets a token. Returns false if it has changed since its credentials were read. */
export async function noteUse({ kysely }: AuthTransaction, { id, session_id }: ClientCredentials): Promise<boolean> {
  const query = kysely
    .updateTable("api_clients")
    .set({ last_used_at: sql<Date>`now()` })
    .where("id", "=", id)
    .where("session_id", "=", session_id);
  return (await query.returning("id").executeTakeFirst()) !== undefined;
}

/** Returns false if the assertion was used before. */
export async function useAssertion(
  { kysely }: AuthTransaction,
  { clientId, jtiHash, expiresAt }: { clientId: string; jtiHash: Buffer; expiresAt: Date },
): Promise<boolean> {
  const query = kysely.insertInto("client_assertions").values({ client_id: clientId, jti_hash: jtiHash, expires_at: expiresAt });
  return (
    (await query
      .onConflict((conflict) => conflict.doNothing())
      .returning("client_id")
      .executeTakeFirst()) !== undefined
  );
}

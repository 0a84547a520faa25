/** Accounts and teams in Postgres. */
import type { Role } from "@pm/kit/auth/access";
import { AppError } from "@pm/kit/errors";
import { violatedConstraint } from "@pm/kit/postgres/database";
import { type Kysely, type SelectQueryBuilder, sql } from "kysely";
import type { AuthTables, AuthTransaction } from "../tables.ts";

export type UserState = "active" | "invited" | "disabled";
export type UserRow = {
  id: string;
  email: string;
  name: string;
  roles: Role[];
  state: UserState;
  second_factor: boolean;
  teams: string[];
  created_at: Date;
  updated_at: Date;
};

export type UserFilter = { q?: string | undefined; role?: Role | undefined; state?: UserState | undefined; teamId?: string | undefined };

type Reader = Kysely<AuthTables> | AuthTransaction;

const state = sql<UserState>`case when u.disabled_at is not null then 'disabled' when u.password_hash is null then 'invited' else 'active' end`;

function users(db: Reader): SelectQueryBuilder<AuthTables & { u: AuthTables["users"] }, "u", UserRow> {
  return db
    .selectFrom("users as u")
    .select([
      "u.id",
      sql<string>`u.email::text`.as("email"),
      "u.name",
      "u.roles",
      state.as("state"),
      sql<boolean>`exists (select from second_factors f where f.user_id = u.id and f.confirmed_at is not null)`.as("second_factor"),
      sql<string[]>`array(select team_id::text from team_members m where m.user_id = u.id order by team_id)`.as("teams"),
      "u.created_at",
      "u.updated_at",
    ]) as SelectQueryBuilder<AuthTables & { u: AuthTables["users"] }, "u", UserRow>;
}

/** Accounts after `after` in the order in which they were made (ids rise with time), at most `limit`. */
export async function listUsers(db: Reader, filter: UserFilter, page: { after: string | undefined; limit: number }): Promise<UserRow[]> {
  let query = users(db).orderBy("u.id").limit(page.limit);
  if (page.after !== undefined) query = query.where("u.id", ">", page.after);
  if (filter.role !== undefined) query = query.where(sql<boolean>`${filter.role} = any(u.roles)`);
  if (filter.state !== undefined) query = query.where(sql<boolean>`${state} = ${filter.state}`);
  if (filter.teamId !== undefined)
    query = query.where(sql<boolean>`exists (select from team_members m where m.user_id = u.id and m.team_id = ${filter.teamId})`);
  if (filter.q !== undefined) {
    const pattern = `%${filter.q.replace(/[\\%_]/g, "\\$&")}%`;
    query = query.where(sql<boolean>`(u.email::text || ' ' || u.name) ilike ${pattern}`);
  }
  return query.execute();
}

export async function findUser(db: Reader, id: string): Promise<UserRow | undefined> {
  return users(db).where("u.id", "=", id).executeTakeFirst();
}

/** Locks an account until the transaction ends, so that nobody signs in to it meanwhile. @throws AppError not_found */
export async function lockUser(transaction: AuthTransaction, id: string): Promise<UserRow> {
  await transaction.selectFrom("users").select("id").where("id", "=", id).forUpdate().execute();
  const user = await findUser(transaction, id);
  if (!user) throw new AppError("not_found", "There is no such user.");
  return user;
}

export type NewUser = { email: string; name: string; roles: Role[]; passwordHash: string | null };

/** @returns the id. @throws AppError already_exists where the address has an account */
export async function insertUser(transaction: AuthTransaction, user: NewUser): Promise<string> {
  try {
    const row = await transaction
      .insertInto("users")
      .values({ email: user.email, name: user.name, roles: user.roles, password_hash: user.passwordHash })
      .returning("id")
      .executeTakeFirstOrThrow();
    return row.id;
  } catch (error) {
    throw emailTaken(error);
  }
}

export type UserChange = Partial<{ email: string; name: string; roles: Role[]; password_hash: string; disabled_at: Date | null }>;

/** Changes an account; without values, only its version. @throws AppError already_exists where the new address has an account */
export async function updateUser(transaction: AuthTransaction, id: string, change: UserChange): Promise<void> {
  try {
    await transaction
      .updateTable("users")
      .set({ ...change, updated_at: sql<Date>`clock_timestamp()` })
      .where("id", "=", id)
      .execute();
  } catch (error) {
    throw emailTaken(error);
  }
}

function emailTaken(error: unknown): unknown {
  if (violatedConstraint(error) !== "users_email_unique") return error;
  const message = "belongs to another account";
  return new AppError("already_exists", `email: ${message}`, { errors: [{ path: "email", message }], cause: error });
}

/** Administrators who could still sign in if `without` could not. Locks them, so that two do not remove each other. */
export async function otherActiveAdmins(transaction: AuthTransaction, without: string): Promise<number> {
  const rows = await transaction
    .selectFrom("users")
    .select("id")
    .where(sql<boolean>`'admin' = any(roles)`)
    .where("disabled_at", "is", null)
    .where("password_hash", "is not", null)
    .orderBy("id")
    .forUpdate()
    .execute();
  return rows.filter((row) => row.id !== without).length;
}

export type TeamRow = { id: string; name: string; created_at: Date; members: number };

function teams(db: Reader): SelectQueryBuilder<AuthTables & { t: AuthTables["teams"] }, "t", TeamRow> {
  return db
    .selectFrom("teams as t")
    .select([
      "t.id",
      sql<string>`t.name::text`.as("name"),
      "t.created_at",
      sql<number>`(select count(*)::int from team_members m where m.team_id = t.id)`.as("members"),
    ]) as SelectQueryBuilder<AuthTables & { t: AuthTables["teams"] }, "t", TeamRow>;
}

export async function listTeams(db: Reader, page: { after: string | undefined; limit: number }): Promise<TeamRow[]> {
  const query = teams(db).orderBy("t.id").limit(page.limit);
  return (page.after === undefined ? query : query.where("t.id", ">", page.after)).execute();
}

export async function findTeam(db: Reader, id: string): Promise<TeamRow | undefined> {
  return teams(db).where("t.id", "=", id).executeTakeFirst();
}

/** @returns the id. @throws AppError already_exists */
export async function insertTeam(transaction: AuthTransaction, name: string): Promise<string> {
  try {
    return (await transaction.insertInto("teams").values({ name }).returning("id").executeTakeFirstOrThrow()).id;
  } catch (error) {
    throw teamTaken(error);
  }
}

/** @returns whether there is such a team. @throws AppError already_exists */
export async function renameTeam(transaction: AuthTransaction, id: string, name: string): Promise<boolean> {
  try {
    return (await transaction.updateTable("teams").set({ name }).where("id", "=", id).returning("id").executeTakeFirst()) !== undefined;
  } catch (error) {
    throw teamTaken(error);
  }
}

function teamTaken(error: unknown): unknown {
  if (violatedConstraint(error) !== "teams_name_unique") return error;
  const message = "is the name of another team";
  return new AppError("already_exists", `name: ${message}`, { errors: [{ path: "name", message }], cause: error });
}

/** Deletes a team and returns who was in it, or nothing where there is none. */
export async function deleteTeam(transaction: AuthTransaction, id: string): Promise<string[] | undefined> {
  const members = await transaction.deleteFrom("team_members").where("team_id", "=", id).returning("user_id").execute();
  const deleted = await transaction.deleteFrom("teams").where("id", "=", id).returning("id").executeTakeFirst();
  return deleted && members.map((row) => row.user_id);
}

/** @returns whether the user was not in the team before */
export async function addMember(transaction: AuthTransaction, teamId: string, userId: string): Promise<boolean> {
  const added = await transaction
    .insertInto("team_members")
    .values({ team_id: teamId, user_id: userId })
    .onConflict((conflict) => conflict.columns(["user_id", "team_id"]).doNothing())
    .returning("user_id")
    .executeTakeFirst();
  return added !== undefined;
}

/** @returns whether the user was in the team */
export async function removeMember(transaction: AuthTransaction, teamId: string, userId: string): Promise<boolean> {
  const removed = await transaction
    .deleteFrom("team_members")
    .where("team_id", "=", teamId)
    .where("user_id", "=", userId)
    .returning("user_id")
    .executeTakeFirst();
  return removed !== undefined;
}

/** Users in Postgres. */
import type { Role } from "@pm/kit/auth/access";
import { emailKey } from "@pm/kit/email";
import { AppError } from "@pm/kit/errors";
import { violatedConstraint } from "@pm/kit/postgres/database";
import { type SelectQueryBuilder, sql } from "kysely";
import type { AuthQueries, AuthTables, AuthTransaction } from "../tables.ts";

type UserState = "active" | "invited" | "disabled";
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

const state = sql<UserState>`case when u.disabled_at is not null then 'disabled' when u.password_hash is null then 'invited' else 'active' end`;

function users(db: AuthQueries): SelectQueryBuilder<AuthTables & { u: AuthTables["users"] }, "u", UserRow> {
  return db.kysely
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

/** Up to `limit` users after the id `after`, in the order in which they were created (ids rise with time). */
export async function listUsers(
  db: AuthQueries,
  filter: UserFilter,
  page: { after: string | undefined; limit: number },
): Promise<UserRow[]> {
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

export async function findUser(db: AuthQueries, id: string): Promise<UserRow | undefined> {
  return users(db).where("u.id", "=", id).executeTakeFirst();
}

/** The names of users, in the order of their ids. */
export async function namesOf({ kysely }: AuthQueries, ids: string[]): Promise<{ id: string; name: string }[]> {
  return kysely.selectFrom("users").select(["id", "name"]).where("id", "in", ids).orderBy("id").execute();
}

/** Locks an account, so that nobody can sign in to it before the transaction ends. @throws AppError not_found */
export async function lockUser(tx: AuthTransaction, id: string): Promise<UserRow> {
  await tx.kysely.selectFrom("users").select("id").where("id", "=", id).forUpdate().execute();
  const user = await findUser(tx, id);
  if (!user) throw new AppError("not_found", "There is no such user.");
  return user;
}

export type NewUser = { email: string; name: string; roles: Role[]; passwordHash: string | null };

/** Returns the id. @throws AppError already_exists if the e-mail address has an account */
export async function insertUser(tx: AuthTransaction, user: NewUser): Promise<string> {
  try {
    const row = await tx.kysely
      .insertInto("users")
      .values({ email: user.email, email_key: emailKey(user.email), name: user.name, roles: user.roles, password_hash: user.passwordHash })
      .returning("id")
      .executeTakeFirstOrThrow();
    return row.id;
  } catch (error) {
    throw emailTaken(error);
  }
}

export type UserChange = Partial<{ email: string; name: string; roles: Role[]; password_hash: string; disabled_at: Date | null }>;

/**
 * Changes an account. An empty change gives it a new version, which tells a sign-in under way to read it again.
 * @throws AppError already_exists if the new e-mail address has an account
 */
export async function updateUser(tx: AuthTransaction, id: string, change: UserChange): Promise<void> {
  try {
    await tx.kysely
      .updateTable("users")
      .set({
        ...change,
        ...(change.email !== undefined && { email_key: emailKey(change.email) }),
        updated_at: sql<Date>`clock_timestamp()`,
      })
      .where("id", "=", id)
      .execute();
  } catch (error) {
    throw emailTaken(error);
  }
}

/** Replaces the hash of a password by another one of the same password. Returns false if it has changed before. */
export async function replacePasswordHash({ kysely }: AuthQueries, id: string, oldHash: string, newHash: string): Promise<boolean> {
  const query = kysely.updateTable("users").set({ password_hash: newHash }).where("id", "=", id).where("password_hash", "=", oldHash);
  return (await query.returning("id").executeTakeFirst()) !== undefined;
}

function emailTaken(error: unknown): unknown {
  if (!["users_email_unique", "users_email_key_unique"].includes(violatedConstraint(error) ?? "")) return error;
  const message = "belongs to another account";
  return new AppError("already_exists", `email: ${message}`, { errors: [{ path: "email", message }], cause: error });
}

/** How many administrators besides `without` can sign in. Locks them, so that two cannot remove each other. */
export async function otherActiveAdmins(tx: AuthTransaction, without: string): Promise<number> {
  const rows = await tx.kysely
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

/** Inserts an administrator if there is no user at all. Returns the id, or undefined if there is one. */
export async function insertFirstAdmin(tx: AuthTransaction, user: { email: string; passwordHash: string }): Promise<string | undefined> {
  await sql`select pg_advisory_xact_lock(hashtextextended('first admin', 0))`.execute(tx.kysely);
  const { rows } = await sql<{ id: string }>`
    insert into users (email, email_key, name, roles, password_hash)
    select ${user.email}, ${emailKey(user.email)}, 'Administrator', array['admin'], ${user.passwordHash} where not exists (select from users) returning id`.execute(
    tx.kysely,
  );
  return rows[0]?.id;
}

export async function hasUsers(db: AuthQueries): Promise<boolean> {
  return (await db.kysely.selectFrom("users").select("id").limit(1).executeTakeFirst()) !== undefined;
}

/** Teams and their members in Postgres. */
import { AppError } from "@pm/kit/errors";
import { violatedConstraint } from "@pm/kit/postgres/database";
import { type SelectQueryBuilder, sql } from "kysely";
import type { AuthQueries, AuthTables, AuthTransaction } from "../tables.ts";

export type TeamRow = { id: string; name: string; created_at: Date; members: number };

function teams(db: AuthQueries): SelectQueryBuilder<AuthTables & { t: AuthTables["teams"] }, "t", TeamRow> {
  return db.kysely
    .selectFrom("teams as t")
    .select([
      "t.id",
      sql<string>`t.name::text`.as("name"),
      "t.created_at",
      sql<number>`(select count(*)::int from team_members m where m.team_id = t.id)`.as("members"),
    ]) as SelectQueryBuilder<AuthTables & { t: AuthTables["teams"] }, "t", TeamRow>;
}

export async function listTeams(db: AuthQueries, page: { after: string | undefined; limit: number }): Promise<TeamRow[]> {
  const query = teams(db).orderBy("t.id").limit(page.limit);
  return (page.after === undefined ? query : query.where("t.id", ">", page.after)).execute();
}

export async function findTeam(db: AuthQueries, id: string): Promise<TeamRow | undefined> {
  return teams(db).where("t.id", "=", id).executeTakeFirst();
}

/** Returns the id. @throws AppError already_exists */
export async function insertTeam(tx: AuthTransaction, name: string): Promise<string> {
  try {
    return (await tx.kysely.insertInto("teams").values({ name }).returning("id").executeTakeFirstOrThrow()).id;
  } catch (error) {
    throw teamTaken(error);
  }
}

/** Returns false if there is no such team. @throws AppError already_exists */
export async function renameTeam(tx: AuthTransaction, id: string, name: string): Promise<boolean> {
  try {
    return (await tx.kysely.updateTable("teams").set({ name }).where("id", "=", id).returning("id").executeTakeFirst()) !== undefined;
  } catch (error) {
    throw teamTaken(error);
  }
}

function teamTaken(error: unknown): unknown {
  if (violatedConstraint(error) !== "teams_name_unique") return error;
  const message = "is the name of another team";
  return new AppError("already_exists", `name: ${message}`, { errors: [{ path: "name", message }], cause: error });
}

/** Deletes a team and returns the ids of its members, or undefined if there is no such team. */
export async function deleteTeam(tx: AuthTransaction, id: string): Promise<string[] | undefined> {
  const members = await tx.kysely.deleteFrom("team_members").where("team_id", "=", id).returning("user_id").execute();
  const deleted = await tx.kysely.deleteFrom("teams").where("id", "=", id).returning("id").executeTakeFirst();
  return deleted && members.map((row) => row.user_id);
}

/** Returns false if the user was in the team already. */
export async function addMember(tx: AuthTransaction, teamId: string, userId: string): Promise<boolean> {
  const added = await tx.kysely
    .insertInto("team_members")
    .values({ team_id: teamId, user_id: userId })
    .onConflict((conflict) => conflict.columns(["user_id", "team_id"]).doNothing())
    .returning("user_id")
    .executeTakeFirst();
  return added !== undefined;
}

/** Returns false if the user was not in the team. */
export async function removeMember(tx: AuthTransaction, teamId: string, userId: string): Promise<boolean> {
  const removed = await tx.kysely
    .deleteFrom("team_members")
    .where("team_id", "=", teamId)
    .where("user_id", "=", userId)
    .returning("user_id")
    .executeTakeFirst();
  return removed !== undefined;
}

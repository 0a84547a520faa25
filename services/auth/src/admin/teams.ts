/** Teams: who belongs together when a patient is shared. A token names the teams of its user. */
import type { Cursors } from "@pm/kit/cursor";
import { AppError } from "@pm/kit/errors";
import type { AuthDatabase } from "../tables.ts";
import type { Actor, Change, Changes } from "../unit-of-work.ts";
import {
  addMember,
  deleteTeam,
  findTeam,
  insertTeam,
  listTeams,
  lockUser,
  removeMember,
  renameTeam,
  type TeamRow,
  updateUser,
} from "../users/store.ts";
import type { Page } from "./users.ts";

export type Teams = {
  list(page: { cursor?: string | undefined; limit: number }): Promise<Page<TeamRow>>;
  /** @throws AppError not_found */
  get(id: string): Promise<TeamRow>;
  create(name: string, by: Actor): Promise<TeamRow>;
  rename(id: string, name: string, by: Actor): Promise<TeamRow>;
  /** Ends the sessions of its members, so that nobody goes on seeing what he saw as one. */
  remove(id: string, by: Actor): Promise<void>;
  /** Tokens name the new team from the next refresh on. */
  addMember(id: string, userId: string, by: Actor): Promise<void>;
  /** Ends the user's sessions, so that he does not go on seeing what he saw as a member. */
  removeMember(id: string, userId: string, by: Actor): Promise<void>;
};

export function createTeams({ database, changes, cursors }: { database: AuthDatabase; changes: Changes; cursors: Cursors }): Teams {
  /** A login at this moment reads the account again, and every session that names the team ends. */
  async function leave(change: Change, userId: string): Promise<void> {
    await updateUser(change.transaction, userId, {});
    await change.endSessions({ userId }, "CREDENTIALS_CHANGED");
  }

  const noTeam = () => new AppError("not_found", "There is no such team.");

  async function get(id: string): Promise<TeamRow> {
    const team = await findTeam(database.kysely, id);
    if (!team) throw noTeam();
    return team;
  }

  return {
    get,

    async list({ cursor, limit }) {
      const after = cursor === undefined ? undefined : String(cursors.open(["teams"], cursor)[0]);
      const rows = await listTeams(database.kysely, { after, limit: limit + 1 });
      const items = rows.slice(0, limit);
      const last = items.at(-1);
      return { items, ...(rows.length > limit && last && { nextCursor: cursors.seal(["teams"], [last.id]) }) };
    },

    async create(name, by) {
      const id = await changes.run(by, async ({ transaction, audit }) => {
        const created = await insertTeam(transaction, name);
        audit("authz_team_created", created);
        return created;
      });
      return get(id);
    },

    async rename(id, name, by) {
      await changes.run(by, async ({ transaction, audit }) => {
        if (!(await renameTeam(transaction, id, name))) throw noTeam();
        audit("authz_team_updated", id);
      });
      return get(id);
    },

    remove: (id, by) =>
      changes.run(by, async (change) => {
        const members = await deleteTeam(change.transaction, id);
        if (!members) throw noTeam();
        change.audit("authz_team_deleted", id, { members });
        for (const userId of members.toSorted()) await leave(change, userId);
      }),

    addMember: (id, userId, by) =>
      changes.run(by, async ({ transaction, audit }) => {
        if (!(await findTeam(transaction, id))) throw noTeam();
        await lockUser(transaction, userId);
        if (await addMember(transaction, id, userId)) audit("authz_change", userId, { joined: id });
      }),

    removeMember: (id, userId, by) =>
      changes.run(by, async (change) => {
        if (!(await findTeam(change.transaction, id))) throw noTeam();
        await lockUser(change.transaction, userId);
        if (!(await removeMember(change.transaction, id, userId))) return;
        change.audit("authz_change", userId, { left: id });
        await leave(change, userId);
      }),
  };
}

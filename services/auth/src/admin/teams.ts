/** Teams: users who see the patients that are shared with their team. A user's token names their teams. */
import type { Cursors } from "@pm/kit/cursor";
import { AppError } from "@pm/kit/errors";
import { type Page, type PageRequest, toPage } from "@pm/kit/http/paging";
import type { ClientContext } from "../client-address.ts";
import type { AuthDatabase } from "../tables.ts";
import type { Change, UnitOfWork } from "../unit-of-work.ts";
import { lockUser, updateUser } from "../users/store.ts";
import { addMember, deleteTeam, findTeam, insertTeam, listTeams, removeMember, renameTeam, type TeamRow } from "../users/teams-store.ts";

export type Teams = {
  list(page: PageRequest): Promise<Page<TeamRow>>;
  /** @throws AppError not_found */
  get(id: string): Promise<TeamRow>;
  create(name: string, context: ClientContext): Promise<TeamRow>;
  rename(id: string, name: string, context: ClientContext): Promise<TeamRow>;
  /** Deletes the team and ends its members' sessions and its API clients' tokens: they lose what only the team sees. */
  remove(id: string, context: ClientContext): Promise<void>;
  /** Tokens name the new team from the next refresh on. */
  addMember(id: string, userId: string, context: ClientContext): Promise<void>;
  /** Ends the user's sessions, so that they no longer see what only the team sees. */
  removeMember(id: string, userId: string, context: ClientContext): Promise<void>;
};

export function createTeams(options: { db: AuthDatabase; unitOfWork: UnitOfWork; cursors: Cursors }): Teams {
  const { db, unitOfWork, cursors } = options;

  /**
   * Ends every session that names the team. The new version of the account tells a sign-in under way to read it again.
   */
  async function leave(change: Change, userId: string): Promise<void> {
    await updateUser(change.tx, userId, {});
    await change.endSessions({ userId }, "CREDENTIALS_CHANGED");
  }

  const noTeam = () => new AppError("not_found", "There is no such team.");

  async function get(id: string): Promise<TeamRow> {
    const team = await findTeam(db, id);
    if (!team) throw noTeam();
    return team;
  }

  return {
    get,

    async list({ cursor, limit }) {
      const after = cursor === undefined ? undefined : String(cursors.open(["teams"], cursor)[0]);
      const rows = await listTeams(db, { after, limit: limit + 1 });
      return toPage(rows, limit, (last) => cursors.seal(["teams"], [last.id]));
    },

    async create(name, context) {
      const id = await unitOfWork.run(context, async ({ tx, audit }) => {
        const created = await insertTeam(tx, name);
        audit("authz_team_created", created);
        return created;
      });
      return get(id);
    },

    async rename(id, name, context) {
      await unitOfWork.run(context, async ({ tx, audit }) => {
        if (!(await renameTeam(tx, id, name))) throw noTeam();
        audit("authz_team_updated", id);
      });
      return get(id);
    },

    remove: (id, context) =>
      unitOfWork.run(context, async (change) => {
        await change.endTokens({ teamId: id });
        const members = await deleteTeam(change.tx, id);
        if (!members) throw noTeam();
        change.audit("authz_team_deleted", id, { members });
        for (const userId of members.toSorted()) await leave(change, userId);
      }),

    addMember: (id, userId, context) =>
      unitOfWork.run(context, async ({ tx, audit }) => {
        if (!(await findTeam(tx, id))) throw noTeam();
        await lockUser(tx, userId);
        if (await addMember(tx, id, userId)) audit("authz_change", userId, { joined: id });
      }),

    removeMember: (id, userId, context) =>
      unitOfWork.run(context, async (change) => {
        if (!(await findTeam(change.tx, id))) throw noTeam();
        await lockUser(change.tx, userId);
        if (!(await removeMember(change.tx, id, userId))) return;
        change.audit("authz_change", userId, { left: id });
        await leave(change, userId);
      }),
  };
}

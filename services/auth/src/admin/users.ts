/** What administrators do with existing accounts. */
import type { Role } from "@pm/kit/auth/access";
import type { Cursors } from "@pm/kit/cursor";
import { AppError } from "@pm/kit/errors";
import { type Page, type PageRequest, toPage } from "@pm/kit/http/paging";
import type { ClientContext } from "../client-address.ts";
import type { MailMessages } from "../mail/messages.ts";
import type { AuthDatabase } from "../tables.ts";
import type { Change, UnitOfWork } from "../unit-of-work.ts";
import { deleteLinks } from "../users/links-store.ts";
import type { SecondFactors } from "../users/second-factor.ts";
import {
  findUser,
  listUsers,
  lockUser,
  otherActiveAdmins,
  type UserChange,
  type UserFilter,
  type UserRow,
  updateUser,
} from "../users/store.ts";

type UserUpdate = { email?: string | undefined; name?: string | undefined; roles?: Role[] | undefined };

export type Users = {
  list(filter: UserFilter, page: PageRequest): Promise<Page<UserRow>>;
  /** @throws AppError not_found */
  get(id: string): Promise<UserRow>;
  /** New roles or a new address end the user's sessions, so that the change takes effect in all services at once. */
  update(id: string, update: UserUpdate, context: ClientContext): Promise<UserRow>;
  disable(id: string, context: ClientContext): Promise<UserRow>;
  enable(id: string, context: ClientContext): Promise<UserRow>;
  /** Returns how many sessions have ended. */
  endSessions(id: string, context: ClientContext): Promise<number>;
  /** For a user who has lost the device and the recovery codes, after their identity was checked. */
  removeSecondFactor(id: string, context: ClientContext): Promise<UserRow>;
};

export function createUsers(options: {
  db: AuthDatabase;
  unitOfWork: UnitOfWork;
  secondFactors: SecondFactors;
  messages: MailMessages;
  cursors: Cursors;
  now: () => number;
}): Users {
  const { db, unitOfWork, secondFactors, messages, cursors, now } = options;

  /** Locks an account, changes it, and returns it before and after the change. */
  function change(id: string, context: ClientContext, work: (change: Change, user: UserRow) => Promise<void>) {
    return unitOfWork.run(context, async (change) => {
      const before = await lockUser(change.tx, id);
      await work(change, before);
      const after = await findUser(change.tx, id);
      if (!after) throw new AppError("not_found", "There is no such user.");
      return { before, after };
    });
  }

  return {
    async list(filter, { cursor, limit }) {
      const query = ["users", filter];
      const after = cursor === undefined ? undefined : String(cursors.open(query, cursor)[0]);
      const rows = await listUsers(db, filter, { after, limit: limit + 1 });
      return toPage(rows, limit, (last) => cursors.seal(query, [last.id]));
    },
    async get(id) {
      const user = await findUser(db, id);
      if (!user) throw new AppError("not_found", "There is no such user.");
      return user;
    },
    async update(id, update, context) {
      const { before, after } = await change(id, context, (change, user) => applyUpdate(change, user, update));
      if (before.email !== after.email) messages.emailChanged(before.email);
      return after;
    },
    async disable(id, context) {
      const { after } = await change(id, context, async (change, user) => {
        if (user.state === "disabled") return change.audit("sensitive_read", id);
        await keepAnAdmin(change, user);
        await updateUser(change.tx, id, { disabled_at: new Date(now()) });
        await deleteLinks(change.tx, id);
        change.audit("user_disabled", id);
        change.emit({ case: "userDisabled", value: { userId: id, tokensExpireAt: change.tokensExpireAt } }, id);
        await change.endSessions({ userId: id }, "USER_DISABLED");
      });
      return after;
    },
    async enable(id, context) {
      const { after } = await change(id, context, async (change, user) => {
        if (user.state !== "disabled") return change.audit("sensitive_read", id);
        await updateUser(change.tx, id, { disabled_at: null });
        change.audit("user_enabled", id);
      });
      return after;
    },
    endSessions: (id, context) =>
      unitOfWork.run(context, async (change) => {
        await lockUser(change.tx, id);
        return change.endSessions({ userId: id }, "REVOKED");
      }),
    async removeSecondFactor(id, context) {
      const { after } = await change(id, context, async (change) => {
        if (!(await secondFactors.remove(change, id))) return change.audit("sensitive_read", id);
        await change.endSessions({ userId: id }, "CREDENTIALS_CHANGED");
      });
      messages.secondFactorRemoved(after.email);
      return after;
    },
  };
}

async function keepAnAdmin({ tx }: Change, user: UserRow): Promise<void> {
  if (user.state === "active" && user.roles.includes("admin") && (await otherActiveAdmins(tx, user.id)) === 0)
    throw new AppError("failed_precondition", "This is the last administrator. Make another one first.");
}

/**
 * Writes the fields of an update that differ from the user's. If none does, the answer is still a read of the account.
 */
async function applyUpdate(change: Change, user: UserRow, { email, name, roles }: UserUpdate): Promise<void> {
  const newRoles = roles !== undefined && [...roles].sort().join() !== [...user.roles].sort().join() ? roles : undefined;
  const newEmail = email !== undefined && email !== user.email ? email : undefined;
  const values: UserChange = {
    ...(newEmail !== undefined && { email: newEmail }),
    ...(name !== undefined && name !== user.name && { name }),
    ...(newRoles && { roles: newRoles }),
  };
  const fields = Object.keys(values);
  if (fields.length === 0) return change.audit("sensitive_read", user.id);
  if (newRoles && !newRoles.includes("admin")) await keepAnAdmin(change, user);
  await updateUser(change.tx, user.id, values);
  if (newEmail !== undefined) await deleteLinks(change.tx, user.id);
  if (newRoles) change.audit("authz_change", user.id, { before: user.roles, after: newRoles });
  const others = fields.filter((field) => field !== "roles");
  if (others.length > 0) change.audit("user_updated", user.id, { fields: others });
  if (newRoles || newEmail !== undefined) await change.endSessions({ userId: user.id }, "CREDENTIALS_CHANGED");
}

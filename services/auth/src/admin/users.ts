/** What administrators do with accounts. */

import { timestampFromMs } from "@bufbuild/protobuf/wkt";
import type { Role } from "@pm/kit/auth/access";
import type { Cursors } from "@pm/kit/cursor";
import { AppError } from "@pm/kit/errors";
import type { Letters } from "../mail/messages.ts";
import type { Passwords } from "../passwords/hashing.ts";
import { checkNewPassword } from "../passwords/policy.ts";
import { revocationSkewSeconds } from "../sessions/revocations.ts";
import type { AuthDatabase } from "../tables.ts";
import type { Actor, Change, Changes } from "../unit-of-work.ts";
import { createLink, voidLinks } from "../users/links.ts";
import type { Factors } from "../users/second-factor.ts";
import {
  findUser,
  insertUser,
  listUsers,
  lockUser,
  otherActiveAdmins,
  type UserChange,
  type UserFilter,
  type UserRow,
  updateUser,
} from "../users/store.ts";

export type Page<Item> = { items: Item[]; nextCursor?: string };

export type Users = {
  /** Without a password the user gets an invitation by mail. @throws AppError already_exists, failed_precondition */
  create(user: { email: string; name: string; roles: Role[]; password?: string | undefined }, by: Actor): Promise<UserRow>;
  list(filter: UserFilter, page: { cursor?: string | undefined; limit: number }): Promise<Page<UserRow>>;
  /** @throws AppError not_found */
  get(id: string): Promise<UserRow>;
  /** New roles and a new address end the user's sessions, so that they hold everywhere at once. */
  update(
    id: string,
    change: { email?: string | undefined; name?: string | undefined; roles?: Role[] | undefined },
    by: Actor,
  ): Promise<UserRow>;
  disable(id: string, by: Actor): Promise<UserRow>;
  enable(id: string, by: Actor): Promise<UserRow>;
  /** Sends a link: an invitation to who has no password yet, else one for choosing a new password. */
  sendLink(id: string, by: Actor): Promise<void>;
  endSessions(id: string, by: Actor): Promise<number>;
  /** For a user who has lost the device and the recovery codes, after his identity was checked. */
  removeSecondFactor(id: string, by: Actor): Promise<UserRow>;
};

export function createUsers(options: {
  database: AuthDatabase;
  changes: Changes;
  passwords: Passwords;
  factors: Factors;
  letters: Letters;
  cursors: Cursors;
  tokenSeconds: number;
  now: () => number;
}): Users {
  const { database, changes, passwords, factors, letters, cursors, tokenSeconds, now } = options;

  const needMail = () => {
    if (!letters.enabled)
      throw new AppError("failed_precondition", "No mail is set up (MAIL_URL), so no link can be sent. Give the account a password.");
  };

  async function get(id: string): Promise<UserRow> {
    const user = await findUser(database.kysely, id);
    if (!user) throw new AppError("not_found", "There is no such user.");
    return user;
  }

  /** Changes one account under a lock and answers what has become of it. */
  function changing(id: string, by: Actor, work: (change: Change, user: UserRow) => Promise<void>): Promise<UserRow> {
    return changes.run(by, async (change) => {
      await work(change, await lockUser(change.transaction, id));
      const changed = await findUser(change.transaction, id);
      if (!changed) throw new AppError("not_found", "There is no such user.");
      return changed;
    });
  }

  async function keepAnAdmin({ transaction }: Change, user: UserRow): Promise<void> {
    if (user.state === "active" && user.roles.includes("admin") && (await otherActiveAdmins(transaction, user.id)) === 0)
      throw new AppError("failed_precondition", "This is the last administrator. Make another one first.");
  }

  return {
    get,

    async create({ email, name, roles, password }, by) {
      if (password === undefined) needMail();
      else checkNewPassword(password, [email, name]);
      const passwordHash = password === undefined ? null : await passwords.hash(password);
      const created = await changes.run(by, async ({ transaction, audit }) => {
        const id = await insertUser(transaction, { email, name, roles, passwordHash });
        audit("user_created", id, { roles });
        const link = { purpose: "invite" as const, userId: id, email, name, passwordHash: null };
        return { id, token: passwordHash === null ? await createLink(transaction, link) : undefined };
      });
      if (created.token !== undefined) letters.invite(email, created.token);
      return get(created.id);
    },

    async list(filter, { cursor, limit }) {
      const query = ["users", filter];
      const after = cursor === undefined ? undefined : String(cursors.open(query, cursor)[0]);
      const rows = await listUsers(database.kysely, filter, { after, limit: limit + 1 });
      const items = rows.slice(0, limit);
      const last = items.at(-1);
      return { items, ...(rows.length > limit && last && { nextCursor: cursors.seal(query, [last.id]) }) };
    },

    async update(id, { email, name, roles }, by) {
      let before: UserRow | undefined;
      const user = await changing(id, by, async (change, current) => {
        before = current;
        const newRoles = roles !== undefined && [...roles].sort().join() !== [...current.roles].sort().join() ? roles : undefined;
        const newEmail = email !== undefined && email !== current.email ? email : undefined;
        const values: UserChange = {
          ...(newEmail !== undefined && { email: newEmail }),
          ...(name !== undefined && name !== current.name && { name }),
          ...(newRoles && { roles: newRoles }),
        };
        const fields = Object.keys(values);
        if (fields.length === 0) return;
        if (newRoles && !newRoles.includes("admin")) await keepAnAdmin(change, current);
        await updateUser(change.transaction, id, values);
        if (newEmail !== undefined) await voidLinks(change.transaction, id);
        if (newRoles) change.audit("authz_change", id, { before: current.roles, after: newRoles });
        if (fields.some((field) => field !== "roles"))
          change.audit("user_updated", id, { fields: fields.filter((field) => field !== "roles") });
        if (newRoles || newEmail !== undefined) await change.endSessions({ userId: id }, "CREDENTIALS_CHANGED");
      });
      if (before && before.email !== user.email) letters.emailChanged(before.email);
      return user;
    },

    disable: (id, by) =>
      changing(id, by, async (change, user) => {
        if (user.state === "disabled") return;
        await keepAnAdmin(change, user);
        await updateUser(change.transaction, id, { disabled_at: new Date(now()) });
        await voidLinks(change.transaction, id);
        change.audit("user_disabled", id);
        const tokensExpireAt = timestampFromMs(now() + (tokenSeconds + revocationSkewSeconds) * 1_000);
        change.tell({ case: "userDisabled", value: { userId: id, tokensExpireAt } }, id);
        await change.endSessions({ userId: id }, "USER_DISABLED");
      }),

    enable: (id, by) =>
      changing(id, by, async (change, user) => {
        if (user.state !== "disabled") return;
        await updateUser(change.transaction, id, { disabled_at: null });
        change.audit("user_enabled", id);
      }),

    async sendLink(id, by) {
      needMail();
      const sent = await changes.run(by, async ({ transaction, audit }) => {
        const user = await lockUser(transaction, id);
        if (user.state === "disabled") throw new AppError("failed_precondition", "The account is disabled. Enable it first.");
        const purpose = user.state === "invited" ? ("invite" as const) : ("password_reset" as const);
        audit("authn_link_sent", id, { purpose });
        return {
          user,
          purpose,
          token: await createLink(transaction, { purpose, userId: id, email: user.email, name: null, passwordHash: null }),
        };
      });
      if (sent.purpose === "invite") letters.invite(sent.user.email, sent.token);
      else letters.passwordReset(sent.user.email, sent.token);
    },

    endSessions: (id, by) =>
      changes.run(by, async (change) => {
        await lockUser(change.transaction, id);
        return change.endSessions({ userId: id }, "REVOKED");
      }),

    async removeSecondFactor(id, by) {
      const user = await changing(id, by, async (change) => {
        if (await factors.remove(change, id)) await change.endSessions({ userId: id }, "CREDENTIALS_CHANGED");
      });
      letters.factorRemoved(user.email);
      return user;
    },
  };
}

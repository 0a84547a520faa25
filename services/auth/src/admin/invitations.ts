/** How administrators create accounts, and mail links with which users choose their passwords. */
import type { Role } from "@pm/kit/auth/access";
import { AppError } from "@pm/kit/errors";
import type { ClientContext } from "../client-address.ts";
import type { MailMessages } from "../mail/messages.ts";
import type { Passwords } from "../passwords/hashing.ts";
import { checkNewPassword } from "../passwords/policy.ts";
import type { UnitOfWork } from "../unit-of-work.ts";
import { createLink, createMailedLink } from "../users/links.ts";
import { insertUser, lockUser } from "../users/store.ts";

export type Invitations = {
  /**
   * Creates an account and returns its id. Without a password, the user gets an invitation by mail.
   * @throws AppError already_exists, failed_precondition
   */
  createUser(user: { email: string; name: string; roles: Role[]; password?: string | undefined }, context: ClientContext): Promise<string>;
  /** Mails a link: an invitation if the user has no password yet, otherwise one for a new password. */
  sendLink(userId: string, context: ClientContext): Promise<void>;
};

export function createInvitations(options: { unitOfWork: UnitOfWork; passwords: Passwords; messages: MailMessages }): Invitations {
  const { unitOfWork, passwords, messages } = options;

  const requireMail = () => {
    if (!messages.enabled)
      throw new AppError("failed_precondition", "No mail is set up (MAIL_URL), so no link can be sent. Give the account a password.");
  };

  return {
    async createUser({ email, name, roles, password }, context) {
      if (password === undefined) requireMail();
      else checkNewPassword(password, [email, name]);
      const passwordHash = password === undefined ? null : await passwords.hash(password);
      const { id, token } = await unitOfWork.run(context, async ({ tx, audit }) => {
        const userId = await insertUser(tx, { email, name, roles, passwordHash });
        audit("user_created", userId, { roles });
        if (passwordHash !== null) return { id: userId };
        return { id: userId, token: await createLink(tx, { purpose: "invite", userId, email, name, passwordHash }) };
      });
      if (token !== undefined) messages.invite(email, token);
      return id;
    },

    async sendLink(userId, context) {
      requireMail();
      const { email, purpose, token } = await unitOfWork.run(context, async (change) => {
        const user = await lockUser(change.tx, userId);
        if (user.state === "disabled") throw new AppError("failed_precondition", "The account is disabled. Enable it first.");
        const purpose = user.state === "invited" ? ("invite" as const) : ("password_reset" as const);
        const link = { purpose, userId, email: user.email, name: null, passwordHash: null };
        return { email: user.email, purpose, token: await createMailedLink(change, link) };
      });
      if (purpose === "invite") messages.invite(email, token);
      else messages.passwordReset(email, token);
    },
  };
}

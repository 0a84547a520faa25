/** What users do with their own account: read it, rename it, change its password and its e-mail address. */
import { AppError } from "@pm/kit/errors";
import type { ClientContext } from "../client-address.ts";
import type { MailMessages } from "../mail/messages.ts";
import type { Passwords } from "../passwords/hashing.ts";
import { checkNewPassword } from "../passwords/policy.ts";
import type { Credentials, Proof } from "../sessions/credentials.ts";
import type { Sessions } from "../sessions/sessions.ts";
import type { Throttle } from "../sessions/throttle.ts";
import type { SignedIn } from "../sessions/token-pair.ts";
import type { AuthDatabase } from "../tables.ts";
import type { UnitOfWork } from "../unit-of-work.ts";
import { findAccountByEmail } from "../users/account-lookup-store.ts";
import { createMailedLink, invalidLink, readLink, useLink } from "../users/links.ts";
import { deleteLinks } from "../users/links-store.ts";
import { findUser, lockUser, type UserRow, updateUser } from "../users/store.ts";
import type { AfterResponse } from "./after-response.ts";

/** The user of the token that was sent, and its session. */
export type Me = { id: string; sessionId: string | undefined };

export type Accounts = {
  /** @throws AppError not_found */
  get(me: Me): Promise<UserRow>;
  rename(me: Me, name: string, context: ClientContext): Promise<void>;
  /** Ends all sessions and opens a new one. */
  changePassword(me: Me, proof: Proof, newPassword: string, context: ClientContext): Promise<SignedIn>;
  /** Mails a code to the new address. If no mail is set up, the address changes at once. */
  changeEmail(me: Me, proof: Proof, email: string, context: ClientContext): Promise<"code sent" | "changed">;
  /** Changes the address and ends the user's other sessions. */
  confirmEmail(me: Me, token: string, context: ClientContext): Promise<void>;
};

export function createAccounts(options: {
  db: AuthDatabase;
  unitOfWork: UnitOfWork;
  passwords: Passwords;
  credentials: Credentials;
  sessions: Sessions;
  throttle: Throttle;
  messages: MailMessages;
  afterResponse: AfterResponse;
}): Accounts {
  const { db, unitOfWork, passwords, credentials, sessions, throttle, messages, afterResponse } = options;

  /** Changes the address, with the token of a link if a mail confirmed it. Links to the old address become invalid. */
  async function setEmail(me: Me, email: string, context: ClientContext, token?: string): Promise<void> {
    const oldEmail = await unitOfWork.run(context, async (change) => {
      if (token !== undefined) await useLink(change.tx, token, "email_change");
      const user = await lockUser(change.tx, me.id);
      await updateUser(change.tx, me.id, { email });
      await deleteLinks(change.tx, me.id);
      change.audit("user_updated", me.id, { fields: ["email"] });
      await change.endSessions({ userId: me.id, except: me.sessionId }, "CREDENTIALS_CHANGED");
      return user.email;
    });
    messages.emailChanged(oldEmail);
  }

  async function mailCode(me: Me, email: string, context: ClientContext): Promise<void> {
    if (await findAccountByEmail(db, email)) {
      messages.alreadySignedUp(email);
      return;
    }
    const link = { purpose: "email_change" as const, userId: me.id, email, name: null, passwordHash: null };
    messages.confirmEmail(email, await unitOfWork.run(context, (change) => createMailedLink(change, link)));
  }

  return {
    async get(me) {
      const user = await findUser(db, me.id);
      if (!user) throw new AppError("not_found", "This account does not exist.");
      return user;
    },
    rename: (me, name, context) =>
      unitOfWork.run(context, async ({ tx, audit }) => {
        await lockUser(tx, me.id);
        await updateUser(tx, me.id, { name });
        audit("user_updated", me.id, { fields: ["name"] });
      }),
    async changePassword(me, proof, newPassword, context) {
      const account = await credentials.reauthenticate(me.id, proof, context, "currentPassword");
      checkNewPassword(newPassword, [account.email, account.name], "newPassword");
      const passwordHash = await passwords.hash(newPassword);
      await unitOfWork.run(context, async (change) => {
        await lockUser(change.tx, me.id);
        await updateUser(change.tx, me.id, { password_hash: passwordHash });
        await deleteLinks(change.tx, me.id);
        change.audit("authn_password_change", me.id);
        await change.endSessions({ userId: me.id }, "CREDENTIALS_CHANGED");
      });
      messages.passwordChanged(account.email);
      return sessions.open({ account, passwordHash, secondFactor: account.enrolled }, context);
    },
    async changeEmail(me, proof, email, context) {
      await credentials.reauthenticate(me.id, proof, context);
      if (!messages.enabled) {
        await setEmail(me, email, context);
        return "changed";
      }
      await throttle.mail(email, context.address);
      afterResponse.runAfterResponse(() => mailCode(me, email, context));
      return "code sent";
    },
    async confirmEmail(me, token, context) {
      const link = await readLink(db, token, "email_change");
      if (link.userId !== me.id) throw invalidLink();
      await setEmail(me, link.email, context, token);
    },
  };
}

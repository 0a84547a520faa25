/** A new password for people who forgot theirs: a link by mail, and the password that they choose with it. */
import type { ClientContext } from "../client-address.ts";
import type { MailMessages } from "../mail/messages.ts";
import type { Passwords } from "../passwords/hashing.ts";
import { checkNewPassword } from "../passwords/policy.ts";
import type { Throttle } from "../sessions/throttle.ts";
import type { AuthDatabase } from "../tables.ts";
import type { UnitOfWork } from "../unit-of-work.ts";
import { findAccountByEmail } from "../users/account-lookup-store.ts";
import { createMailedLink, invalidLink, readLink, useLink } from "../users/links.ts";
import { lockUser, updateUser } from "../users/store.ts";
import type { AfterResponse } from "./after-response.ts";

export type PasswordReset = {
  /** Mails a link. Answers the same, in the same time, whether the address has an account or not. */
  request(email: string, context: ClientContext): Promise<void>;
  /** Sets the password and ends all sessions. The second factor stays. */
  confirm(token: string, password: string, context: ClientContext): Promise<void>;
};

export function createPasswordReset(options: {
  db: AuthDatabase;
  unitOfWork: UnitOfWork;
  passwords: Passwords;
  throttle: Throttle;
  messages: MailMessages;
  afterResponse: AfterResponse;
}): PasswordReset {
  const { db, unitOfWork, passwords, throttle, messages, afterResponse } = options;

  return {
    async request(email, context) {
      await throttle.mail(email, context.address);
      afterResponse.runAfterResponse(async () => {
        const account = await findAccountByEmail(db, email);
        if (!account || account.disabled || !messages.enabled) return;
        const purpose = account.password_hash === null ? ("invite" as const) : ("password_reset" as const);
        const link = { purpose, userId: account.id, email: account.email, name: account.name, passwordHash: null };
        const token = await unitOfWork.run(context, (change) => createMailedLink(change, link));
        if (purpose === "invite") messages.invite(account.email, token);
        else messages.passwordReset(account.email, token);
      });
    },

    async confirm(token, password, context) {
      const link = await readLink(db, token, "password_reset");
      checkNewPassword(password, [link.email, link.name ?? ""]);
      const passwordHash = await passwords.hash(password);
      const actorId = link.userId ?? "anonymous";
      await unitOfWork.run({ ...context, actorId }, async (change) => {
        const { userId } = await useLink(change.tx, token, "password_reset");
        if (userId === null) throw invalidLink();
        const user = await lockUser(change.tx, userId);
        if (user.state === "disabled") throw invalidLink();
        await updateUser(change.tx, userId, { password_hash: passwordHash });
        change.audit("authn_password_change", userId, { by: "link" });
        await change.endSessions({ userId }, "CREDENTIALS_CHANGED");
      });
      messages.passwordChanged(link.email);
    },
  };
}

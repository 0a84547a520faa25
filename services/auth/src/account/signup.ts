/** How people get an account: they sign up, or they accept the invitation of an administrator. */
import type { Role } from "@pm/kit/auth/access";
import { AppError, invalidFields } from "@pm/kit/errors";
import type { ClientContext } from "../client-address.ts";
import type { MailMessages } from "../mail/messages.ts";
import type { Passwords } from "../passwords/hashing.ts";
import { checkNewPassword } from "../passwords/policy.ts";
import type { Throttle } from "../sessions/throttle.ts";
import type { AuthDatabase } from "../tables.ts";
import type { UnitOfWork } from "../unit-of-work.ts";
import { findAccountByEmail } from "../users/account-lookup-store.ts";
import { createMailedLink, invalidLink, readLink, useLink } from "../users/links.ts";
import type { Link } from "../users/links-store.ts";
import { insertUser, lockUser, type NewUser, updateUser } from "../users/store.ts";
import type { AfterResponse } from "./after-response.ts";

/**
 * `mail`: a new account can sign in after its address was confirmed. `open`: it can sign in at once, for networks where
 * everybody may know who has an account.
 */
type SignupPolicy = "off" | "mail" | "open";

export type Signup = {
  /** Answers the same whether the address has an account or not. @throws AppError permission_denied if signup is off */
  signup(account: { email: string; password: string; name: string }, context: ClientContext): Promise<void>;
  /** Sets the password of an invited account. For a signup, it creates the account if the password is the signup's. */
  acceptInvite(token: string, password: string, context: ClientContext): Promise<void>;
};

export function createSignup(options: {
  db: AuthDatabase;
  unitOfWork: UnitOfWork;
  passwords: Passwords;
  throttle: Throttle;
  messages: MailMessages;
  afterResponse: AfterResponse;
  policy: SignupPolicy;
  /** The roles of an account that somebody signs up for. Without one, it can do nothing with records. */
  roles: Role[];
}): Signup {
  const { db, unitOfWork, passwords, throttle, messages, afterResponse, policy, roles } = options;

  const createUser = (user: Omit<NewUser, "roles">, context: ClientContext, link?: { token: string }) =>
    unitOfWork.run(context, async ({ tx, audit }) => {
      if (link) await useLink(tx, link.token, "signup");
      const id = await insertUser(tx, { ...user, roles });
      audit("user_created", id, { roles, by: "signup" });
    });

  async function confirmSignup(link: Link, token: string, password: string, context: ClientContext): Promise<void> {
    const { matches } = await passwords.verify(link.passwordHash, password);
    if (!matches) throw invalidFields([{ path: "password", message: "is not the one that you chose when you signed up" }]);
    await createUser({ email: link.email, name: link.name ?? "", passwordHash: link.passwordHash }, context, { token });
  }

  return {
    async signup({ email, password, name }, context) {
      if (policy === "off" || (policy === "mail" && !messages.enabled))
        throw new AppError("permission_denied", "Signup is switched off here. Ask an administrator for an account.");
      checkNewPassword(password, [email, name]);
      await throttle.mail(email, context.address);
      const passwordHash = await passwords.hash(password);
      const work = async () => {
        if (await findAccountByEmail(db, email)) messages.alreadySignedUp(email);
        else if (policy === "open") await createUser({ email, name, passwordHash }, context);
        else {
          const link = { purpose: "signup" as const, userId: null, email, name, passwordHash };
          messages.confirmSignup(email, await unitOfWork.run(context, (change) => createMailedLink(change, link)));
        }
      };
      // Without a mail to wait for, people sign in right after the response, so the account must be there by then.
      if (policy === "open") await afterResponse.runBeforeResponse(work);
      else afterResponse.runAfterResponse(work);
    },

    async acceptInvite(token, password, context) {
      const link = await readLink(db, token, "invite", "signup");
      if (link.purpose === "signup") return confirmSignup(link, token, password, context);
      checkNewPassword(password, [link.email, link.name ?? ""]);
      const passwordHash = await passwords.hash(password);
      const actorId = link.userId ?? "anonymous";
      await unitOfWork.run({ ...context, actorId }, async ({ tx, audit }) => {
        const { userId } = await useLink(tx, token, "invite");
        if (userId === null) throw invalidLink();
        const user = await lockUser(tx, userId);
        if (user.state !== "invited") throw invalidLink();
        await updateUser(tx, userId, { password_hash: passwordHash });
        audit("authn_password_change", userId, { by: "invite" });
      });
    },
  };
}

/** What people do with their own account: sign up, accept an invitation, change or reset what they sign in with. */
import { randomInt } from "node:crypto";
import { setTimeout as delay } from "node:timers/promises";
import { AppError, invalidFields } from "@pm/kit/errors";
import type { Origin } from "../client-address.ts";
import type { Letters } from "../mail/messages.ts";
import type { Passwords } from "../passwords/hashing.ts";
import { checkNewPassword } from "../passwords/policy.ts";
import type { Sessions, SignedIn } from "../sessions/sessions.ts";
import { findAccountByEmail } from "../sessions/store.ts";
import type { Throttle } from "../sessions/throttle.ts";
import type { AuthDatabase, LinkPurpose } from "../tables.ts";
import type { Changes } from "../unit-of-work.ts";
import { createLink, type Link, readLink, useLink, voidLinks } from "../users/links.ts";
import type { Factors } from "../users/second-factor.ts";
import { findUser, insertUser, lockUser, type UserRow, updateUser } from "../users/store.ts";

/** `mail`: a new account counts when its address was confirmed. `open`: at once, for networks where everybody may know who has one. */
export type SignupPolicy = "off" | "mail" | "open";

type Proof = { password: string; code?: string | undefined };
type Me = { id: string; sessionId: string | undefined };

export type Accounts = {
  /** @throws AppError not_found */
  get(me: Me): Promise<UserRow>;
  /** Answers the same whether the address has an account or not. @throws AppError permission_denied where signup is off */
  signup(account: { email: string; password: string; name: string }, origin: Origin): Promise<void>;
  /** Sets the password of an invited account, or makes the account of a signup, whose password it must be. */
  acceptInvite(token: string, password: string, origin: Origin): Promise<void>;
  /** Answers the same, at once, whether the address has an account or not. */
  requestPasswordReset(email: string, origin: Origin): Promise<void>;
  /** Ends all sessions. The second factor stays. */
  resetPassword(token: string, password: string, origin: Origin): Promise<void>;
  /** Ends all sessions and opens a new one. */
  changePassword(me: Me, proof: Proof, newPassword: string, origin: Origin): Promise<SignedIn>;
  /** Sends a code to the new address; where no mail is set up the address changes at once. */
  changeEmail(me: Me, proof: Proof, email: string, origin: Origin): Promise<"code sent" | "changed">;
  /** Ends the user's other sessions. */
  confirmEmail(me: Me, token: string, origin: Origin): Promise<void>;
  rename(me: Me, name: string, origin: Origin): Promise<void>;
  enrolFactor(me: Me, proof: Proof, origin: Origin): Promise<{ secret: string; uri: string }>;
  /** Ends the user's other sessions, and lets this one do what takes a second factor from its next refresh on. */
  confirmFactor(me: Me, code: string, origin: Origin): Promise<string[]>;
  newRecoveryCodes(me: Me, proof: Proof, origin: Origin): Promise<string[]>;
  removeFactor(me: Me, proof: Proof, origin: Origin): Promise<void>;
  /** Waits for what goes on after answers were given. */
  close(): Promise<void>;
};

export function createAccounts(options: {
  database: AuthDatabase;
  changes: Changes;
  passwords: Passwords;
  sessions: Sessions;
  throttle: Throttle;
  factors: Factors;
  letters: Letters;
  signup: SignupPolicy;
  /** Told what went wrong after the answer. */
  onError: (error: unknown) => void;
}): Accounts {
  const { database, changes, passwords, sessions, throttle, factors, letters, onError } = options;
  const underWay = new Set<Promise<void>>();

  /**
   * Goes on after the answer, when that has surely gone: what depends on whether there is an account must not be seen in the
   * time that the answer takes, and work that began beside it made it 0.2 ms longer, which can be measured.
   */
  function afterwards(work: () => Promise<void>): void {
    const running = delay(randomInt(50, 150))
      .then(work)
      .catch(onError)
      .finally(() => underWay.delete(running));
    underWay.add(running);
  }

  const peek = (token: string, purposes: LinkPurpose[]) => database.kysely.transaction().execute((t) => readLink(t, token, purposes));
  const invalidLink = () => {
    const message = "is unknown, was used already, or is older than 30 minutes; ask for a new one";
    return invalidFields([{ path: "token", message }]);
  };

  const sendableLink = (link: Link, actor: string, origin: Origin) =>
    changes.run({ id: actor, origin }, ({ transaction, audit }) => {
      audit("authn_link_sent", link.userId ?? "unknown", { purpose: link.purpose });
      return createLink(transaction, link);
    });

  const signup: Accounts["signup"] = async ({ email, password, name }, origin) => {
    if (options.signup === "off" || (options.signup === "mail" && !letters.enabled))
      throw new AppError("permission_denied", "Signup is switched off here. Ask an administrator for an account.");
    checkNewPassword(password, [email, name]);
    await throttle.mail(email, origin.address);
    const passwordHash = await passwords.hash(password);
    const work = async () => {
      if (await findAccountByEmail(database, email)) {
        letters.alreadySignedUp(email);
        return;
      }
      if (options.signup === "mail") {
        const link = { purpose: "signup" as const, userId: null, email, name, passwordHash };
        letters.confirmSignup(email, await sendableLink(link, "anonymous", origin));
        return;
      }
      await changes.run({ id: "anonymous", origin }, async ({ transaction, audit }) => {
        audit("user_created", await insertUser(transaction, { email, name, roles: ["user"], passwordHash }), {
          roles: ["user"],
          by: "signup",
        });
      });
    };
    // Who signs up where nothing has to be confirmed signs in next, so that answer waits for the account.
    if (options.signup === "open") await work().catch(onError);
    else afterwards(work);
  };

  const acceptInvite: Accounts["acceptInvite"] = async (token, password, origin) => {
    const link = await peek(token, ["invite", "signup"]);
    if (!link) throw invalidLink();
    if (link.purpose === "signup") {
      if (!(await passwords.verify(link.passwordHash, password)))
        throw invalidFields([{ path: "password", message: "is not the one that you chose when you signed up" }]);
      await changes.run({ id: "anonymous", origin }, async ({ transaction, audit }) => {
        const used = await useLink(transaction, token, ["signup"]);
        const user = { email: used.email, name: used.name ?? "", roles: ["user" as const], passwordHash: used.passwordHash };
        audit("user_created", await insertUser(transaction, user), { roles: ["user"], by: "signup" });
      });
      return;
    }
    checkNewPassword(password, [link.email, link.name ?? ""]);
    const passwordHash = await passwords.hash(password);
    await changes.run({ id: link.userId ?? "anonymous", origin }, async ({ transaction, audit }) => {
      const { userId } = await useLink(transaction, token, ["invite"]);
      if (userId === null) throw invalidLink();
      const user = await lockUser(transaction, userId);
      if (user.state !== "invited") throw invalidLink();
      await updateUser(transaction, userId, { password_hash: passwordHash });
      audit("authn_password_change", userId, { by: "invite" });
    });
  };

  const requestPasswordReset: Accounts["requestPasswordReset"] = async (email, origin) => {
    await throttle.mail(email, origin.address);
    afterwards(async () => {
      const account = await findAccountByEmail(database, email);
      if (!account || account.disabled || !letters.enabled) return;
      const purpose = account.password_hash === null ? ("invite" as const) : ("password_reset" as const);
      const link = { purpose, userId: account.id, email: account.email, name: account.name, passwordHash: null };
      const token = await sendableLink(link, "anonymous", origin);
      if (purpose === "invite") letters.invite(account.email, token);
      else letters.passwordReset(account.email, token);
    });
  };

  const resetPassword: Accounts["resetPassword"] = async (token, password, origin) => {
    const link = await peek(token, ["password_reset"]);
    if (!link) throw invalidLink();
    checkNewPassword(password, [link.email, link.name ?? ""]);
    const passwordHash = await passwords.hash(password);
    await changes.run({ id: link.userId ?? "anonymous", origin }, async (change) => {
      const { userId } = await useLink(change.transaction, token, ["password_reset"]);
      if (userId === null) throw invalidLink();
      const user = await lockUser(change.transaction, userId);
      if (user.state === "disabled") throw invalidLink();
      await updateUser(change.transaction, userId, { password_hash: passwordHash });
      change.audit("authn_password_change", userId, { by: "link" });
      await change.endSessions({ userId }, "CREDENTIALS_CHANGED");
    });
    letters.passwordChanged(link.email);
  };

  const changePassword: Accounts["changePassword"] = async (me, proof, newPassword, origin) => {
    const account = await sessions.prove(me.id, proof, origin);
    checkNewPassword(newPassword, [account.email, account.name], "newPassword");
    const passwordHash = await passwords.hash(newPassword);
    await changes.run({ id: me.id, origin }, async (change) => {
      await lockUser(change.transaction, me.id);
      await updateUser(change.transaction, me.id, { password_hash: passwordHash });
      await voidLinks(change.transaction, me.id);
      change.audit("authn_password_change", me.id);
      await change.endSessions({ userId: me.id }, "CREDENTIALS_CHANGED");
    });
    letters.passwordChanged(account.email);
    return sessions.open(account, passwordHash, account.enrolled, origin);
  };

  /** Changes the address and ends the sessions that were opened with the former one, all but this. */
  async function setEmail(me: Me, email: string, origin: Origin, token?: string): Promise<void> {
    const former = await changes.run({ id: me.id, origin }, async (change) => {
      if (token !== undefined) {
        const link = await useLink(change.transaction, token, ["email_change"]);
        if (link.userId !== me.id) throw invalidLink();
      }
      const user = await lockUser(change.transaction, me.id);
      await updateUser(change.transaction, me.id, { email });
      await voidLinks(change.transaction, me.id);
      change.audit("user_updated", me.id, { fields: ["email"] });
      await change.endSessions({ userId: me.id, except: me.sessionId }, "CREDENTIALS_CHANGED");
      return user.email;
    });
    letters.emailChanged(former);
  }

  const changeEmail: Accounts["changeEmail"] = async (me, proof, email, origin) => {
    await sessions.prove(me.id, proof, origin);
    if (!letters.enabled) {
      await setEmail(me, email, origin);
      return "changed";
    }
    await throttle.mail(email, origin.address);
    afterwards(async () => {
      if (await findAccountByEmail(database, email)) {
        letters.alreadySignedUp(email);
        return;
      }
      const link = { purpose: "email_change" as const, userId: me.id, email, name: null, passwordHash: null };
      letters.confirmEmail(email, await sendableLink(link, me.id, origin));
    });
    return "code sent";
  };

  const confirmEmail: Accounts["confirmEmail"] = async (me, token, origin) => {
    const link = await peek(token, ["email_change"]);
    if (!link || link.userId !== me.id) throw invalidLink();
    await setEmail(me, link.email, origin, token);
  };

  const rename: Accounts["rename"] = (me, name, origin) =>
    changes.run({ id: me.id, origin }, async ({ transaction, audit }) => {
      await lockUser(transaction, me.id);
      await updateUser(transaction, me.id, { name });
      audit("user_updated", me.id, { fields: ["name"] });
    });

  const enrolFactor: Accounts["enrolFactor"] = async (me, proof, origin) => {
    const account = await sessions.prove(me.id, proof, origin);
    return changes.run({ id: me.id, origin }, (change) => factors.enrol(change, account));
  };

  const confirmFactor: Accounts["confirmFactor"] = async (me, code, origin) => {
    const user = await findUser(database.kysely, me.id);
    const attempt = await throttle.attempt(user?.email ?? me.id, origin.address);
    const codes = await changes.run({ id: me.id, origin }, async (change) => {
      const recoveryCodes = await factors.confirm(change, me.id, code);
      await change.endSessions({ userId: me.id, except: me.sessionId }, "CREDENTIALS_CHANGED");
      if (me.sessionId !== undefined)
        await change.transaction.updateTable("sessions").set({ second_factor: true }).where("id", "=", me.sessionId).execute();
      return recoveryCodes;
    });
    await attempt.succeeded();
    if (user) letters.factorAdded(user.email);
    return codes;
  };

  const newRecoveryCodes: Accounts["newRecoveryCodes"] = async (me, proof, origin) => {
    const account = await sessions.prove(me.id, proof, origin);
    if (!account.enrolled) throw new AppError("failed_precondition", "There is no second factor to recover.");
    return changes.run({ id: me.id, origin }, (change) => factors.newRecoveryCodes(change, me.id));
  };

  const removeFactor: Accounts["removeFactor"] = async (me, proof, origin) => {
    const account = await sessions.prove(me.id, proof, origin);
    const removed = await changes.run({ id: me.id, origin }, async (change) => {
      const had = await factors.remove(change, me.id);
      if (had) await change.endSessions({ userId: me.id, except: me.sessionId }, "CREDENTIALS_CHANGED");
      return had;
    });
    if (removed) letters.factorRemoved(account.email);
  };

  const get: Accounts["get"] = async (me) => {
    const user = await findUser(database.kysely, me.id);
    if (!user) throw new AppError("not_found", "This account does not exist.");
    return user;
  };

  return {
    get,
    signup,
    acceptInvite,
    requestPasswordReset,
    resetPassword,
    changePassword,
    changeEmail,
    confirmEmail,
    rename,
    enrolFactor,
    confirmFactor,
    newRecoveryCodes,
    removeFactor,
    close: async () => void (await Promise.all(underWay)),
  };
}

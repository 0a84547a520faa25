/** How users set up their second factor, replace its recovery codes, and remove it. */
import { AppError } from "@pm/kit/errors";
import type { ClientContext } from "../client-address.ts";
import type { MailMessages } from "../mail/messages.ts";
import type { Credentials, Proof } from "../sessions/credentials.ts";
import { setSecondFactor } from "../sessions/store.ts";
import type { Throttle } from "../sessions/throttle.ts";
import type { AuthDatabase } from "../tables.ts";
import type { UnitOfWork } from "../unit-of-work.ts";
import type { SecondFactors } from "../users/second-factor.ts";
import { findUser, lockUser } from "../users/store.ts";
import type { Me } from "./account.ts";

export type SecondFactorSetup = {
  /** Creates a secret, which is in use after `confirm`. */
  enrol(me: Me, proof: Proof, context: ClientContext): Promise<{ secret: string; uri: string }>;
  /** Takes the secret into use and ends the user's other sessions. This session counts as one with a second factor. */
  confirm(me: Me, code: string, context: ClientContext): Promise<string[]>;
  newRecoveryCodes(me: Me, proof: Proof, context: ClientContext): Promise<string[]>;
  /** Removes the second factor and ends the user's other sessions, and this one too if the factor was required. */
  remove(me: Me, proof: Proof, context: ClientContext): Promise<void>;
};

export function createSecondFactorSetup(options: {
  db: AuthDatabase;
  unitOfWork: UnitOfWork;
  credentials: Credentials;
  throttle: Throttle;
  secondFactors: SecondFactors;
  messages: MailMessages;
}): SecondFactorSetup {
  const { db, unitOfWork, credentials, throttle, secondFactors, messages } = options;
  const otherSessions = (me: Me) => ({ userId: me.id, except: me.sessionId });

  return {
    async enrol(me, proof, context) {
      const account = await credentials.reauthenticate(me.id, proof, context);
      return unitOfWork.run(context, (change) => secondFactors.enrol(change, account));
    },
    async confirm(me, code, context) {
      const user = await findUser(db, me.id);
      const attempt = await throttle.attempt(user?.email ?? me.id, context.address);
      const recoveryCodes = await unitOfWork.run(context, async (change) => {
        const codes = await secondFactors.confirm(change, me.id, code);
        await change.endSessions(otherSessions(me), "CREDENTIALS_CHANGED");
        if (me.sessionId !== undefined) await setSecondFactor(change.tx, me.sessionId, true);
        return codes;
      });
      await attempt.succeeded();
      if (user) messages.secondFactorAdded(user.email);
      return recoveryCodes;
    },
    async newRecoveryCodes(me, proof, context) {
      const account = await credentials.reauthenticate(me.id, proof, context);
      if (!account.enrolled) throw new AppError("failed_precondition", "There is no second factor to recover.");
      return unitOfWork.run(context, (change) => secondFactors.newRecoveryCodes(change, me.id));
    },
    async remove(me, proof, context) {
      const account = await credentials.reauthenticate(me.id, proof, context);
      const removed = await unitOfWork.run(context, async (change) => {
        if (!(await secondFactors.remove(change, me.id))) return false;
        const { roles } = await lockUser(change.tx, me.id);
        const isRequired = secondFactors.isRequired(roles);
        await change.endSessions(isRequired ? { userId: me.id } : otherSessions(me), "CREDENTIALS_CHANGED");
        if (!isRequired && me.sessionId !== undefined) await setSecondFactor(change.tx, me.sessionId, false);
        return true;
      });
      if (removed) messages.secondFactorRemoved(account.email);
    },
  };
}

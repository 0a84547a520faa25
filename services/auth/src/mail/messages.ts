/** The mails that auth sends. Users are mailed what they requested, and every change of their account's security. */
import type { Mailer } from "./mailer.ts";

export type MailMessages = {
  /** Whether mail is set up. */
  readonly enabled: boolean;
  invite(to: string, token: string): void;
  confirmSignup(to: string, token: string): void;
  alreadySignedUp(to: string): void;
  passwordReset(to: string, token: string): void;
  passwordChanged(to: string): void;
  confirmEmail(to: string, token: string): void;
  /** @param to the old address */
  emailChanged(to: string): void;
  secondFactorAdded(to: string): void;
  secondFactorRemoved(to: string): void;
};

const expiry = "The link works once and for 30 minutes.";
const warning = "If this was not you, tell your administrator at once.";

/** @param baseUrl where links lead: the gateway, or a user interface that has the same two pages */
export function createMailMessages(mailer: Mailer, baseUrl: string): MailMessages {
  const send = (to: string, subject: string, ...paragraphs: string[]) => mailer.send({ to, subject, text: paragraphs.join("\n\n") });
  const link = (path: string, token: string) => `${baseUrl}${path}?token=${token}`;
  return {
    enabled: mailer.enabled,
    invite(to, token) {
      const text = "You have an account in patient management. Choose a password here:";
      send(to, "Your account", text, link("/auth/invites/accept", token), expiry);
    },
    confirmSignup(to, token) {
      const text = "Somebody, probably you, signed up with this address. Confirm it here, with the password that you chose:";
      const otherwise = "If this was not you, do nothing. Without the confirmation, there is no account.";
      send(to, "Confirm your account", text, link("/auth/invites/accept", token), expiry, otherwise);
    },
    alreadySignedUp(to) {
      const text = "Somebody, probably you, signed up with this address. It has an account already.";
      send(to, "You have an account", text, "Sign in, or reset your password.");
    },
    passwordReset(to, token) {
      const otherwise = "If you did not request this, do nothing. Your password stays as it is.";
      send(to, "Choose a new password", "Choose a new password here:", link("/auth/password-reset/confirm", token), expiry, otherwise);
    },
    passwordChanged: (to) => send(to, "Your password was changed", "All your sessions have ended. Sign in with the new password.", warning),
    confirmEmail(to, token) {
      const text = "Enter this code where you changed your address:";
      send(to, "Confirm your new address", text, token, "The code works once and for 30 minutes.");
    },
    emailChanged: (to) => send(to, "Your address was changed", "Your account now has another e-mail address.", warning),
    secondFactorAdded: (to) =>
      send(to, "Second factor added", "From now on, you sign in with a code from your authenticator app.", warning),
    secondFactorRemoved: (to) =>
      send(to, "Second factor removed", "From now on, you sign in without a code from your authenticator app.", warning),
  };
}

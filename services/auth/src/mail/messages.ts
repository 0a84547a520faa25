/** What we write to users. Nobody is told by mail what he did not ask for, but that something about his account changed. */
import type { Mailer } from "./mailer.ts";

export type Letters = {
  /** Whether anything is sent at all. */
  readonly enabled: boolean;
  invite(to: string, token: string): void;
  confirmSignup(to: string, token: string): void;
  alreadySignedUp(to: string): void;
  passwordReset(to: string, token: string): void;
  passwordChanged(to: string): void;
  confirmEmail(to: string, token: string): void;
  /** To the former address. */
  emailChanged(to: string): void;
  factorAdded(to: string): void;
  factorRemoved(to: string): void;
};

/** @param baseUrl where links lead: the gateway, or a user interface that has the same two pages */
export function createLetters(mailer: Mailer, baseUrl: string): Letters {
  const write = (to: string, subject: string, ...lines: string[]) => mailer.send({ to, subject, text: lines.join("\n\n") });
  const link = (path: string, token: string) => `${baseUrl}${path}?token=${token}`;
  const halfHour = "The link works once, for 30 minutes.";
  const notYou = "If it was not you, tell your administrator at once.";
  return {
    enabled: mailer.enabled,
    invite: (to, token) =>
      write(
        to,
        "Your account",
        "You have an account in patient management. Choose a password here:",
        link("/auth/invites/accept", token),
        halfHour,
      ),
    confirmSignup: (to, token) =>
      write(
        to,
        "Confirm your account",
        "Somebody, probably you, signed up with this address. Confirm it with the password that you chose:",
        link("/auth/invites/accept", token),
        halfHour,
        "If it was not you, do nothing: without the confirmation there is no account.",
      ),
    alreadySignedUp: (to) =>
      write(
        to,
        "You have an account",
        "Somebody, probably you, signed up with this address, which has an account already. Sign in, or reset your password.",
      ),
    passwordReset: (to, token) =>
      write(
        to,
        "Choose a new password",
        "Choose a new password here:",
        link("/auth/password-reset/confirm", token),
        halfHour,
        "If you did not ask for it, do nothing: your password stays as it is.",
      ),
    passwordChanged: (to) => write(to, "Your password was changed", "All your sessions have ended; sign in with the new password.", notYou),
    confirmEmail: (to, token) =>
      write(
        to,
        "Confirm your new address",
        "Give this code where you changed your address:",
        token,
        "The code works once, for 30 minutes.",
      ),
    emailChanged: (to) => write(to, "Your address was changed", "Your account has another e-mail address from now on.", notYou),
    factorAdded: (to) =>
      write(to, "Second factor added", "Signing in to your account takes a code of your authenticator app from now on.", notYou),
    factorRemoved: (to) =>
      write(to, "Second factor removed", "Signing in to your account takes no code of an authenticator app any more.", notYou),
  };
}

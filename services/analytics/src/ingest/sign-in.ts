/** What the events of auth count for. Each counts by itself. */
import { kindOf } from "@pm/kit/auth/access";
import { SignInFailureReason } from "@pm/proto/auth/v1/events";
import { type FailureReason, measures } from "../measures.ts";
import type { Facts } from "../rollups/aggregate.ts";
import type { LoggedAuthEvent } from "./event.ts";

const reasons: Record<SignInFailureReason, FailureReason> = {
  [SignInFailureReason.UNSPECIFIED]: "unknown",
  [SignInFailureReason.CREDENTIALS]: "credentials",
  [SignInFailureReason.SECOND_FACTOR]: "secondFactor",
  [SignInFailureReason.THROTTLED]: "throttled",
};

export function addSignInFacts({ at, change }: LoggedAuthEvent, facts: Facts): void {
  const { signedIn, failed, failedBy, sessionsEnded, usersDisabled } = measures.activity;
  if (change.case === "signedIn") facts.atInstant(signedIn, "", at, 1n);
  if (change.case === "signInFailed") {
    facts.atInstant(failed, "", at, 1n);
    facts.atInstant(failedBy, reasons[change.value.reason] ?? "unknown", at, 1n);
  }
  // API clients do not sign in, and their revoked tokens are no sessions.
  if (change.case === "sessionRevoked" && kindOf(change.value.userId) === "user") facts.atInstant(sessionsEnded, "", at, 1n);
  if (change.case === "userDisabled") facts.atInstant(usersDisabled, "", at, 1n);
}

/** What events of auth count for: each by itself. */
import { SignInFailureReason } from "@pm/proto/auth/v1/events";
import type { Facts } from "../rollups/aggregate.ts";
import type { LoggedEvent } from "./event.ts";

type AuthEvent = Extract<LoggedEvent, { stream: "auth.v1" }>;

export const failureReasons: Record<SignInFailureReason, string> = {
  [SignInFailureReason.UNSPECIFIED]: "unknown",
  [SignInFailureReason.CREDENTIALS]: "credentials",
  [SignInFailureReason.SECOND_FACTOR]: "secondFactor",
  [SignInFailureReason.THROTTLED]: "throttled",
};

export function tallySignIn({ at, what }: AuthEvent, tally: Facts): void {
  if (what.case === "signedIn") tally.atInstant("activity.signedIn", "", at, 1n);
  if (what.case === "signInFailed") {
    tally.atInstant("activity.failed", "", at, 1n);
    tally.atInstant("activity.failed.reason", failureReasons[what.value.reason] ?? "unknown", at, 1n);
  }
  if (what.case === "sessionRevoked") tally.atInstant("activity.sessionEnded", "", at, 1n);
  if (what.case === "userDisabled") tally.atInstant("activity.userDisabled", "", at, 1n);
}

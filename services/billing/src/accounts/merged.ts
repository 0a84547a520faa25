/** What the account of a merged record refuses. */
import { AppError } from "@pm/kit/errors";

/**
 * What is new belongs to the survivor's account. What a merged account has already can still be corrected: voided,
 * refunded, credited, written off.
 * @throws AppError failed_precondition that names the survivor's account
 */
export function requireNotMerged(mergedInto: string | null | undefined): void {
  if (!mergedInto) return;
  const message = `The record of this patient was merged into another one. Use that one's account, ${mergedInto}.`;
  throw new AppError("failed_precondition", message, { reason: "ACCOUNT_MERGED", metadata: { survivorAccountId: mergedInto } });
}

/** What a caller may do with a patient, before anything is done. */
import { AppError } from "@pm/kit/errors";
import type { Queries } from "@pm/kit/postgres/transaction";
import { isUuid } from "@pm/kit/uuid";
import { type Call, viewerOf } from "../caller.ts";
import { type AccessLevel, allows } from "./access-store.ts";
import { type Found, findPatient } from "./store.ts";

/**
 * Finds a patient, also a deleted one, for somebody who needs this level. A merged one is found for reading only.
 * @throws AppError not_found if they may not see it or there is none, permission_denied if they may see it only,
 * failed_precondition if it is to be written and was merged
 */
export async function findFor(db: Queries, call: Call, id: string, needed: AccessLevel): Promise<Found> {
  return requireLevel(isUuid(id) ? await findPatient(db, id, viewerOf(call.caller)) : undefined, id, needed);
}

/** The same for a patient who was looked for already. */
export function requireLevel(found: Found | undefined, id: string, needed: AccessLevel): Found {
  if (!found) throw notFound(id);
  if (found.mergedInto && needed !== "read") throw merged(found.id, found.mergedInto);
  if (allows(found.level, needed)) return found;
  const message =
    needed === "manage"
      ? "Only the owner of a patient and administrators can delete or share it. Ask the owner."
      : "This patient is shared with you for reading only. Ask its owner to share it for writing.";
  throw new AppError("permission_denied", message, { refused: { subject: found.id } });
}

/** The refusal of a write to a merged record. Whoever could see the record can see its survivor. */
function merged(id: string, survivorId: string): AppError {
  const message = `The record ${id} was merged into ${survivorId}, which is of the same person. Send the request to /patients/${survivorId}.`;
  return new AppError("failed_precondition", message, { reason: "MERGED", metadata: { survivorId } });
}

/** The same for patients that do not exist and for those that the caller may not see. The audit trail has both. */
export function notFound(id: string): AppError {
  return new AppError("not_found", "There is no patient with this id.", isUuid(id) ? { refused: { subject: id } } : {});
}

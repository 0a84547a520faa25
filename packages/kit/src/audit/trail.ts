/** Audit entries of answers that write nothing else: what somebody has read, and what they were refused. */
import { createBatcher } from "../batcher.ts";
import { type AppError, toAppError } from "../errors.ts";
import type { Queries } from "../postgres/transaction.ts";
import type { RequestContext } from "../request-context.ts";
import { type AuditEntry, insertAuditEntries } from "./audit.ts";

export type AuditTrail = {
  /**
   * Adds an entry. It is committed when this resolves, so await it before the answer is sent: if the entry cannot be
   * written, the read fails. Details hold ids and counts, and nothing else about a person.
   */
  record(entry: AuditEntry): Promise<void>;
};

/** Entries that arrive together share an insert and a commit. */
export function createAuditTrail(db: Queries): AuditTrail {
  const batcher = createBatcher<AuditEntry, void>({
    name: "audit_entries",
    maxSize: 250,
    maxInFlight: 2,
    async run(entries) {
      await insertAuditEntries(db, entries);
      return entries.map(() => undefined);
    },
  });
  return { record: (entry) => batcher.add(entry) };
}

/**
 * Records that somebody was refused: every 403, and every error with `refused`. Strangers are not recorded, or anybody
 * could fill the audit trail.
 * @returns the error to answer: the refusal, or why it could not be recorded
 */
export async function recordRefusal(audit: AuditTrail, context: RequestContext, operation: string, error: AppError): Promise<AppError> {
  const { refused, metadata } = error.options;
  const actorId = refused?.actorId ?? context.actorId;
  if ((error.code !== "permission_denied" && !refused) || actorId === "anonymous") return error;
  const details = { operation, code: error.code, ...(metadata?.scope && { scope: metadata.scope }) };
  try {
    await audit.record({
      actorId,
      action: "access.refused",
      subject: refused?.subject ?? operation,
      requestId: context.requestId,
      details,
    });
    return error;
  } catch (failure) {
    return toAppError(failure);
  }
}

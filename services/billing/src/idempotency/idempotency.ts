/** Every mutation has a request id, which belongs to one request for ever: a repeated request gets the first answer. */
import { createHash } from "node:crypto";
import { type DescMessage, type DescMethod, fromBinary, type MessageShape, toBinary } from "@bufbuild/protobuf";
import { type AuditEntry, insertAuditEntries } from "@pm/kit/audit/audit";
import { AppError } from "@pm/kit/errors";
import { violatedConstraint } from "@pm/kit/postgres/database";
import type { Queries } from "@pm/kit/postgres/transaction";
import type { RequestContext } from "@pm/kit/request-context";
import type { Row } from "../tables.ts";
import { findRequests, insertRequest } from "./store.ts";

/** What identifies a request: its id, and a hash of everything else in it. */
export type RequestKey = { id: string; method: string; hash: Buffer };

/** The key of a message that has a `request_id`. */
export function requestKey<Input extends DescMessage>(
  method: DescMethod & { input: Input },
  message: MessageShape<Input> & { requestId: string },
): RequestKey {
  const content = toBinary(method.input, { ...message, requestId: "" });
  return {
    id: message.requestId.toLowerCase(),
    method: method.name,
    hash: createHash("sha256").update(`${method.name}\n`).update(content).digest(),
  };
}

/**
 * The stored answer to a request.
 * @throws AppError already_exists if the id was used for another request
 */
export function answerTo(key: RequestKey, stored: Pick<Row<"requests">, "method" | "hash" | "response">): Uint8Array {
  if (stored.method !== key.method || !key.hash.equals(stored.hash)) throw requestIdReused();
  return stored.response;
}

/** The audit entry of a repeated request: its answer shows again what the first one did. */
export function repeatedRead(key: RequestKey, subject: string, { actorId, requestId }: RequestContext): AuditEntry {
  return { actorId, action: "request.repeated", subject, requestId, details: { method: key.method } };
}

/**
 * Runs the work of a request and stores the answer; a repeated request gets the stored answer instead, and leaves an
 * audit entry. The caller holds the lock of what the work changes.
 * @param request.subject the id of what the answer shows, an account or a payer: for audit and erasure
 */
export async function once<Output extends DescMessage>(
  tx: Queries,
  request: { key: RequestKey; output: Output; now: Date; subject: (answer: MessageShape<Output>) => string; context: RequestContext },
  work: () => Promise<MessageShape<Output>>,
): Promise<MessageShape<Output>> {
  const { key, output, now, subject, context } = request;
  const [stored] = await findRequests(tx, [key.id]);
  if (stored) {
    const answer = fromBinary(output, answerTo(key, stored));
    await insertAuditEntries(tx, [repeatedRead(key, subject(answer), context)]);
    return answer;
  }
  const answer = await work();
  await insertRequest(tx, { ...key, response: toBinary(output, answer), created_at: now, subject: subject(answer) });
  return answer;
}

/** Another transaction has stored a request under the same id since this one looked for it. */
export function isRequestIdTaken(error: unknown): boolean {
  return violatedConstraint(error) === "requests_once";
}

/** For the transactions of mutations. If the request id was taken meanwhile, the next try finds the stored request. */
export const retries = { tries: 8, isConflict: isRequestIdTaken };

export function requestIdReused(cause?: unknown): AppError {
  const message = "request_id: was used for another request. Take a new one for each request; repeat one only to repeat the same request.";
  return new AppError("already_exists", message, { reason: "REQUEST_ID_REUSED", cause });
}

/** @throws AppError aborted if the caller has seen another version (AIP-154). No etag means any version. */
export function requireEtag(etag: string, current: string, what: string): void {
  if (etag === "" || etag === current) return;
  throw new AppError("aborted", `etag: the ${what} has changed since you read it. Read it again and decide anew.`, {
    reason: "ETAG_MISMATCH",
  });
}

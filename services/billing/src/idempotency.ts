/** Idempotency: a request id stands for one request for ever, and for its answer. */
import { createHash } from "node:crypto";
import { type DescMessage, type DescMethod, fromBinary, type MessageShape, toBinary } from "@bufbuild/protobuf";
import { AppError } from "@pm/kit/errors";
import { findRequests, type Queries, type RequestsTable, rememberRequest, requestIdReused } from "./accounts/store.ts";

/** A request by what makes it the same again: its id and a hash of everything else that it says. */
export type RequestKey = { id: string; method: string; hash: Buffer };

/** The key of a message with a `request_id`. */
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
 * The answer that a request was given before.
 * @throws AppError already_exists where its id was used for another request.
 */
export function answerOf(key: RequestKey, row: Pick<RequestsTable, "method" | "hash" | "response">): Uint8Array {
  if (row.method !== key.method || !key.hash.equals(row.hash)) throw requestIdReused();
  return row.response;
}

/** Runs work unless its request was carried out before, and keeps the answer. Call it under the lock of what is changed. */
export async function once<Output extends DescMessage>(
  tx: Queries,
  key: RequestKey,
  output: Output,
  now: Date,
  work: () => Promise<MessageShape<Output>>,
): Promise<MessageShape<Output>> {
  const [earlier] = await findRequests(tx, [key.id]);
  if (earlier) return fromBinary(output, answerOf(key, earlier));
  const answer = await work();
  await rememberRequest(tx, { ...key, response: toBinary(output, answer), created_at: now });
  return answer;
}

/** @throws AppError aborted where the caller has seen another version (AIP-154). */
export function requireEtag(etag: string, current: string, what: string): void {
  if (etag === "" || etag === current) return;
  throw new AppError("aborted", `etag: the ${what} has changed since you read it. Read it again and decide anew.`, {
    reason: "ETAG_MISMATCH",
  });
}

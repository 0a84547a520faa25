/** What this service asks of billing, as the caller. */
import { Code, ConnectError, createClient } from "@connectrpc/connect";
import { AppError, type ErrorCode } from "@pm/kit/errors";
import { transportTo } from "@pm/kit/rpc/client";
import { BillingService } from "@pm/proto/billing/v1/billing";
import { type Call, timeoutMs } from "../protocol/calls.ts";

/** What a refusal of billing means to its caller. The others are failures of this service or of billing. */
const codes = new Map<Code, ErrorCode>([
  [Code.InvalidArgument, "invalid_argument"],
  [Code.NotFound, "not_found"],
  [Code.PermissionDenied, "permission_denied"],
  [Code.Unauthenticated, "unauthenticated"],
  [Code.ResourceExhausted, "resource_exhausted"],
  [Code.FailedPrecondition, "failed_precondition"],
]);

/** What billing answers, or the error that it meant. */
export async function answered<Answer>(answer: Promise<Answer>): Promise<Answer> {
  try {
    return await answer;
  } catch (error) {
    const { code, rawMessage } = ConnectError.from(error);
    const meant = codes.get(code);
    throw meant === undefined ? error : new AppError(meant, rawMessage.replace(/^page_token:/, "_cursor:"), { cause: error });
  }
}

export type Billing = ReturnType<typeof createBilling>;

export function createBilling(baseUrl: string) {
  return createClient(BillingService, transportTo(baseUrl));
}

/** The options of a call as the caller. */
export const asCaller = ({ authorization, requestId }: Call) => ({ headers: { authorization, "x-request-id": requestId }, timeoutMs });

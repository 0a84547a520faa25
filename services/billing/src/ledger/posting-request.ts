/** What callers ask of the ledger: a charge, a payment, a refund or a void. */
import { AppError } from "@pm/kit/errors";
import type { RequestContext } from "@pm/kit/request-context";
import type { RequestKey } from "../idempotency/idempotency.ts";
import type { Command } from "./postings.ts";

export type Amount = { minorUnits: bigint; currencyCode: string };

export type NewCharge = { accountId: string; amount: Amount; description: string; serviceDate: string };
export type NewPayment = { accountId: string; amount: Amount; method: number; reference: string };
/** Without an amount, everything that is left of the payment is refunded. */
export type NewRefund = { paymentId: string; amount: Amount | undefined; reason: string };
export type NewVoid = { chargeId: string; reason: string };

/** A request on its way into a batch. The service date of a charge is known by then. */
export type PostingRequest = { key: RequestKey; context: RequestContext } & (
  | { kind: "charge"; request: NewCharge }
  | { kind: "payment"; request: NewPayment }
  | { kind: "refund"; request: NewRefund }
  | { kind: "void"; request: NewVoid }
);

export type RequestOf<Kind extends PostingRequest["kind"]> = Extract<PostingRequest, { kind: Kind }>["request"];

export const auditActions = {
  charge: "charge.created",
  payment: "payment.recorded",
  refund: "payment.refunded",
  void: "charge.voided",
} as const;

/** @param id of the charge or payment that is created, if one is */
export function toCommand(posting: PostingRequest, id: string): Command {
  switch (posting.kind) {
    case "charge": {
      const { minorUnits: amount, currencyCode: currency } = posting.request.amount;
      return { kind: "charge", amount, currency, chargeId: id };
    }
    case "payment": {
      const { minorUnits: amount, currencyCode: currency } = posting.request.amount;
      return { kind: "payment", amount, currency, paymentId: id };
    }
    case "refund": {
      const { paymentId, amount } = posting.request;
      return { kind: "refund", paymentId, amount: amount?.minorUnits, currency: amount?.currencyCode };
    }
    case "void":
      return { kind: "void", chargeId: posting.request.chargeId };
  }
}

/** The charges to void and the payments to refund. */
export function targetsOf(requests: PostingRequest[]): { chargeIds: string[]; paymentIds: string[] } {
  return {
    chargeIds: requests.flatMap((posting) => (posting.kind === "void" ? [posting.request.chargeId] : [])),
    paymentIds: requests.flatMap((posting) => (posting.kind === "refund" ? [posting.request.paymentId] : [])),
  };
}

const targets = {
  charge: ["billing account", "ACCOUNT_NOT_FOUND"],
  payment: ["billing account", "ACCOUNT_NOT_FOUND"],
  refund: ["payment", "PAYMENT_NOT_FOUND"],
  void: ["charge", "CHARGE_NOT_FOUND"],
} as const;

export function targetNotFound({ kind }: PostingRequest): AppError {
  const [what, reason] = targets[kind];
  return new AppError("not_found", `There is no such ${what}.`, { reason });
}

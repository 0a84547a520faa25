/** What callers ask of the ledger: a charge, a void, a payment, its reallocation or its refund. */
import { AppError } from "@pm/kit/errors";
import type { RequestContext } from "@pm/kit/request-context";
import { TaxMode } from "@pm/proto/billing/v1/billing";
import type { RequestKey } from "../idempotency/idempotency.ts";
import type { Command } from "./postings.ts";
import { amountIn, type Target } from "./split.ts";
import { taxOn } from "./tax.ts";

export type Amount = { minorUnits: bigint; currencyCode: string };

export type NewCharge = {
  accountId: string;
  amount: Amount;
  description: string;
  serviceDate: string;
  tax?: { code: string; rateBasisPoints: number; mode: TaxMode } | undefined;
};
export type NewPayment = {
  accountId: string;
  amount: Amount;
  method: number;
  reference: string;
  paymentDate: string;
  allocations: NewAllocation[];
};
/** Without an amount, as much as is open. The amount has the account's currency. */
type NewAllocation = {
  target: { case: "chargeId" | "invoiceId"; value: string } | { case: undefined; value?: undefined };
  amount?: Amount | undefined;
};
export type NewReallocation = { paymentId: string; allocations: NewAllocation[] };
/** Without an amount, everything that is left of the payment is refunded. */
export type NewRefund = { paymentId: string; amount: Amount | undefined; reason: string };
export type NewVoid = { chargeId: string; reason: string };

/** A request on its way to a batch. The day of a service or payment is known by then, and a charge includes its tax. */
export type PostingRequest = { key: RequestKey; context: RequestContext } & (
  | { kind: "charge"; request: NewCharge }
  | { kind: "payment"; request: NewPayment }
  | { kind: "reallocation"; request: NewReallocation }
  | { kind: "refund"; request: NewRefund }
  | { kind: "void"; request: NewVoid }
);

export type RequestOf<Kind extends PostingRequest["kind"]> = Extract<PostingRequest, { kind: Kind }>["request"];

export const auditActions = {
  charge: "charge.created",
  payment: "payment.recorded",
  reallocation: "payment.reallocated",
  refund: "payment.refunded",
  void: "charge.voided",
} as const;

/** The same charge with its tax in the amount. */
export function withTaxInside(charge: NewCharge): NewCharge {
  const { amount, tax } = charge;
  if (tax?.mode !== TaxMode.EXCLUSIVE) return charge;
  const minorUnits = amount.minorUnits + taxOn(amount.minorUnits, tax.rateBasisPoints);
  return { ...charge, amount: { ...amount, minorUnits }, tax: { ...tax, mode: TaxMode.INCLUSIVE } };
}

/**
 * @param id of the charge or payment that is created, if one is
 * @param currencyOfAccount that allocations are in
 */
export function toCommand(posting: PostingRequest, id: string, currencyOfAccount: string): Command {
  switch (posting.kind) {
    case "charge": {
      const { amount: charged, tax } = posting.request;
      const { minorUnits: amount, currencyCode: currency } = charged;
      return { kind: "charge", amount, taxRate: tax?.rateBasisPoints ?? 0, currency, chargeId: id };
    }
    case "payment": {
      const { minorUnits: amount, currencyCode: currency } = posting.request.amount;
      return { kind: "payment", amount, currency, paymentId: id, targets: toTargets(posting.request.allocations, currency) };
    }
    case "reallocation": {
      const { paymentId, allocations } = posting.request;
      return { kind: "reallocation", paymentId, targets: toTargets(allocations, currencyOfAccount) };
    }
    case "refund": {
      const { paymentId, amount } = posting.request;
      return { kind: "refund", paymentId, amount: amount?.minorUnits, currency: amount?.currencyCode };
    }
    case "void":
      return { kind: "void", chargeId: posting.request.chargeId };
  }
}

function toTargets(allocations: NewAllocation[], currency: string): Target[] {
  return allocations.map(({ target, amount }, index) => {
    const part = amountIn(currency, amount, `allocations[${index}].amount`);
    const id = target.value?.toLowerCase() ?? "";
    return target.case === "invoiceId" ? { invoiceId: id, ...part } : { chargeId: id, ...part };
  });
}

/** The charges to void, and the payments to refund or reallocate. */
export function targetsOf(requests: PostingRequest[]): { chargeIds: string[]; paymentIds: string[] } {
  return {
    chargeIds: requests.flatMap(({ kind, request }) => (kind === "void" ? [request.chargeId] : [])),
    paymentIds: requests.flatMap(({ kind, request }) => (kind === "refund" || kind === "reallocation" ? [request.paymentId] : [])),
  };
}

/** The charges and invoices that payments are to settle. */
export function namedIn(requests: PostingRequest[]): { chargeIds: string[]; invoiceIds: string[] } {
  const allocations = requests.flatMap(({ kind, request }) => (kind === "payment" || kind === "reallocation" ? request.allocations : []));
  const ids = (kind: "chargeId" | "invoiceId") => allocations.flatMap(({ target }) => (target.case === kind ? [target.value] : []));
  return { chargeIds: ids("chargeId"), invoiceIds: ids("invoiceId") };
}

const targets = {
  charge: ["billing account", "ACCOUNT_NOT_FOUND"],
  payment: ["billing account", "ACCOUNT_NOT_FOUND"],
  reallocation: ["payment", "PAYMENT_NOT_FOUND"],
  refund: ["payment", "PAYMENT_NOT_FOUND"],
  void: ["charge", "CHARGE_NOT_FOUND"],
} as const;

export function targetNotFound({ kind }: PostingRequest): AppError {
  const [what, reason] = targets[kind];
  return new AppError("not_found", `There is no such ${what}.`, { reason });
}

/**
 * Discounts, credit notes and write-offs: transactions that take amounts off charges. They are rare, so each has a
 * database transaction of its own, under the lock of its account, and not a place in a batch.
 */
import { create } from "@bufbuild/protobuf";
import type { Queries } from "@pm/kit/postgres/transaction";
import type { RequestContext } from "@pm/kit/request-context";
import { type Allocation, type ChargeReduction, ChargeReductionSchema } from "@pm/proto/billing/v1/events";
import { toMoney } from "../accounts/messages.ts";
import type { DomainEvent } from "../events.ts";
import type { RequestKey } from "../idempotency/idempotency.ts";
import type { Row } from "../tables.ts";
import { chargeNow, finishBatch, loadForReduction } from "./batch.ts";
import { toTaxField } from "./messages.ts";
import type { Reduction } from "./postings.ts";
import { collect, postCommand } from "./recording.ts";
import type { Target } from "./split.ts";
import { write } from "./store.ts";

const auditActions: Record<Reduction, string> = {
  discount: "invoice.discounted",
  credit_note: "invoice.credited",
  write_off: "charge.written_off",
};

export type ReductionRequest = {
  kind: Reduction;
  /** All charges that the targets mean. */
  chargeIds: string[];
  targets: Target[];
  /** What the transaction says that it was for. */
  description: string;
  key: RequestKey;
  context: RequestContext;
};

/** What was taken off, as messages have it. */
export type Reduced = {
  transactionId: string;
  at: Date;
  amount: bigint;
  parts: { chargeId: string; amount: bigint }[];
  reductions: ChargeReduction[];
  allocations: Allocation[];
};

/**
 * Takes amounts off charges of an account that the caller has locked, and writes everything that follows from it.
 * @param eventOf the event, and the ids that the audit entry names
 * @throws AppError if a rule refuses it; nothing is written then
 */
export async function reduceCharges(
  tx: Queries,
  account: Row<"accounts">,
  { kind, chargeIds, targets, description, key, context }: ReductionRequest,
  { now, newId }: { now: Date; newId: () => string },
  eventOf: (reduced: Reduced) => { event: DomainEvent; details?: Record<string, string> },
): Promise<Reduced> {
  const batch = await loadForReduction(tx, account, chargeIds);
  const posted = postCommand(batch, { kind, targets }, account, { now, newId });
  const { currency } = account;
  const parts = posted.posting.reductions;
  const reduced: Reduced = {
    ...{ transactionId: posted.transactionId, at: posted.at, parts, allocations: posted.allocations },
    amount: parts.reduce((sum, { amount }) => sum + amount, 0n),
    reductions: parts.map(({ chargeId, amount, tax }) => {
      const { tax_code: code, tax_rate: rate } = chargeNow(batch, chargeId);
      const taxField = kind === "write_off" ? {} : toTaxField({ code, rate, gross: amount, tax }, currency);
      return create(ChargeReductionSchema, { chargeId, amount: toMoney(amount, currency), ...taxField });
    }),
  };
  const { event, details } = eventOf(reduced);
  const audited = { ...details, amount: String(reduced.amount), currency };
  collect(batch, posted, { transaction: { description }, event, action: auditActions[kind], details: audited }, { key, context });
  await write(tx, finishBatch(batch));
  return reduced;
}

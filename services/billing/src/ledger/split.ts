/** How a caller splits a payment over charges and invoices. Pure arithmetic, as the postings that use it. */
import { AppError, invalidFields } from "@pm/kit/errors";

/** A charge, or all charges of an invoice; without an amount, as much as is open and as the payment has left. */
export type Target = { chargeId: string; amount?: bigint } | { invoiceId: string; amount?: bigint };

type Charge = { id: string; sequence: bigint; invoiceId: string | undefined };

/**
 * How much of a payment settles each charge. Targets take their parts one after the other, and an invoice settles its
 * charges in the order in which they were made.
 * @param charges those of the account that the targets name
 * @param available what the payment can settle
 * @param openOf what the payment finds open on a charge
 * @throws AppError not_found, failed_precondition or invalid_argument, which names the target
 */
export function splitPayment<Item extends Charge>(
  charges: Iterable<Item>,
  targets: Target[],
  available: bigint,
  openOf: (charge: Item) => bigint,
): { charge: Item; amount: bigint }[] {
  const bySequence = [...charges].sort((a, b) => (a.sequence < b.sequence ? -1 : 1));
  const taken = new Map<Item, bigint>();
  let left = available;
  for (const [index, target] of targets.entries()) {
    const path = `allocations[${index}]`;
    const named = bySequence.filter((charge) => isNamed(charge, target));
    if (named.length === 0) throw notFound(target, path);
    const openNow = (charge: Item) => openOf(charge) - (taken.get(charge) ?? 0n);
    const open = named.reduce((sum, charge) => sum + openNow(charge), 0n);
    const amount = target.amount ?? min(open, left);
    if (amount > left)
      throw invalidFields([{ path: `${path}.amount`, message: `only ${left} minor units of the payment are left for it` }]);
    if (amount > open || open === 0n) throw exceedsOpen(open, path);
    let rest = amount;
    for (const charge of named) {
      const part = min(openNow(charge), rest);
      taken.set(charge, (taken.get(charge) ?? 0n) + part);
      rest -= part;
    }
    left -= amount;
  }
  return [...taken].filter(([, amount]) => amount > 0n).map(([charge, amount]) => ({ charge, amount }));
}

function isNamed(charge: Charge, target: Target): boolean {
  return "chargeId" in target ? charge.id === target.chargeId : charge.invoiceId === target.invoiceId;
}

function notFound(target: Target, path: string): AppError {
  const [what, reason] = "chargeId" in target ? ["charge", "CHARGE_NOT_FOUND"] : ["invoice", "INVOICE_NOT_FOUND"];
  return new AppError("not_found", `${path}: the account has no such ${what}.`, { reason });
}

function exceedsOpen(open: bigint, path: string): AppError {
  return new AppError("failed_precondition", `${path}: ${open} minor units are open there. Allocate at most that.`, {
    reason: "ALLOCATION_EXCEEDS_OPEN",
    metadata: { openMinorUnits: String(open), allocation: path },
  });
}

function min(a: bigint, b: bigint): bigint {
  return a < b ? a : b;
}

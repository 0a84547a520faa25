/** How a caller splits an amount over charges and invoices. Pure arithmetic, as the postings that use it. */
import { AppError, invalidFields } from "@pm/kit/errors";

/** A charge, or all charges of an invoice; without an amount, as much as there is. */
export type Target = { chargeId: string; amount?: bigint } | { invoiceId: string; amount?: bigint };

type Charge = { id: string; sequence: bigint; invoiceId: string | undefined };

type Limits<Item> = {
  /** What there is to split; without it, as much as the targets take. */
  available?: bigint;
  /** The most that a charge takes: what is open on it, or what is left of it. */
  left: (charge: Item) => bigint;
  /** The field of the request that has the targets; or `amount`, if the request has one target. */
  path: string;
};

/**
 * The amount of a target as a request has it, which may be absent.
 * @throws AppError invalid_argument if it is in another currency than the account's
 */
export function amountIn(
  currency: string,
  amount: { minorUnits: bigint; currencyCode: string } | undefined,
  path: string,
): { amount?: bigint } {
  if (!amount) return {};
  if (amount.currencyCode === currency) return { amount: amount.minorUnits };
  throw invalidFields([{ path: `${path}.currency_code`, message: `must be ${currency}, the account's currency` }]);
}

/**
 * How much each charge takes. Targets take their parts one after the other, and an invoice fills its charges in the
 * order in which they were made.
 * @param charges those of the account that the targets name
 * @throws AppError not_found, failed_precondition or invalid_argument, which names the target
 */
export function splitAmount<Item extends Charge>(
  charges: Iterable<Item>,
  targets: Target[],
  { available, left, path: field }: Limits<Item>,
): { charge: Item; amount: bigint }[] {
  const bySequence = [...charges].sort((a, b) => (a.sequence < b.sequence ? -1 : 1));
  const taken = new Map<Item, bigint>();
  let rest = available;
  for (const [index, target] of targets.entries()) {
    const path = field === "amount" ? field : `${field}[${index}]`;
    const named = bySequence.filter((charge) => isNamed(charge, target));
    if (named.length === 0) throw notFound(target, path);
    const leftNow = (charge: Item) => left(charge) - (taken.get(charge) ?? 0n);
    const most = named.reduce((sum, charge) => sum + leftNow(charge), 0n);
    const amount = target.amount ?? (rest === undefined ? most : min(most, rest));
    if (rest !== undefined && amount > rest)
      throw invalidFields([{ path: `${path}.amount`, message: `only ${rest} minor units of the payment are left for it` }]);
    if (amount > most || most === 0n) throw exceeds(most, path);
    let missing = amount;
    for (const charge of named) {
      const part = min(leftNow(charge), missing);
      taken.set(charge, (taken.get(charge) ?? 0n) + part);
      missing -= part;
    }
    if (rest !== undefined) rest -= amount;
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

function exceeds(left: bigint, path: string): AppError {
  return new AppError("failed_precondition", `${path}: ${left} minor units are left there. Take at most that.`, {
    reason: "AMOUNT_EXCEEDS_CHARGE",
    metadata: { leftMinorUnits: String(left), target: path },
  });
}

function min(a: bigint, b: bigint): bigint {
  return a < b ? a : b;
}

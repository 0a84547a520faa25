/**
 * Money in the roll-ups. Postgres adds up in 64 bits, which a thousand of the largest amounts there may be would fill. So an
 * amount is counted in two parts, under the currency what is below 2^32 and under a name of its own how many times 2^32 are
 * in it: a sum of billions of either fits. Amounts that were counted whole, as they once were, add up with these.
 */
import type { Instant } from "../calendar.ts";
import type { Facts } from "./aggregate.ts";
import type { Amounts } from "./query.ts";

const large = 2n ** 32n;
const largePartOf = (currency: string) => `${currency} × 2^32`;

/** Adds an amount at an instant, in minor units. */
export function countMoney(tally: Facts, measure: string, currency: string, at: Instant, minorUnits: bigint): void {
  const times = minorUnits / large;
  tally.atInstant(measure, currency, at, minorUnits % large);
  if (times !== 0n) tally.atInstant(measure, largePartOf(currency), at, times);
}

/** The sum of a currency, in minor units. */
export function moneyIn(amounts: Amounts[], measure: string, currency: string): bigint {
  let sum = 0n;
  for (const each of amounts) sum += each.of(measure, currency) + each.of(measure, largePartOf(currency)) * large;
  return sum;
}

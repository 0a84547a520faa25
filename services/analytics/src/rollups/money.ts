/**
 * Money in the roll-ups. Postgres adds up in 64 bits, and a thousand of the largest amounts would overflow them. So an
 * amount is counted in two parts: what is below 2^32 under the currency, and how many times 2^32 fit into it under
 * another value. A sum of billions of either fits. Earlier releases counted whole amounts under the currency; they add
 * up with these.
 */
import type { Instant } from "@pm/kit/calendar";
import type { Facts } from "./aggregate.ts";
import type { Amounts } from "./amounts.ts";

const large = 2n ** 32n;
const largePartOf = (currency: string) => `${currency} × 2^32`;

/** Adds an amount at an instant, in minor units. */
export function addMoney(facts: Facts, measure: string, currency: string, at: Instant, minorUnits: bigint): void {
  const times = minorUnits / large;
  facts.atInstant(measure, currency, at, minorUnits % large);
  if (times !== 0n) facts.atInstant(measure, largePartOf(currency), at, times);
}

/** The money of one fact: its currency, and its amount in minor units. */
export function moneyOf(value: string, amount: bigint): { currency: string; minorUnits: bigint } {
  const [currency = "", ...largePart] = value.split(" ");
  return { currency, minorUnits: largePart.length === 0 ? amount : amount * large };
}

/** The sum of a currency, in minor units. */
export function moneyIn(amounts: Amounts[], measure: string, currency: string): bigint {
  let sum = 0n;
  for (const each of amounts) sum += each.of(measure, currency) + each.of(measure, largePartOf(currency)) * large;
  return sum;
}

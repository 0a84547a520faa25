/**
 * Tax in whole minor units. All amounts of a charge have its tax in them, and the tax is a function of the amount: it
 * is rounded once, half up, for the whole charge or for what is left of it
 * (docs/decisions/0017-tax-is-rounded-per-line.md). So parts that are taken off a charge, one after the other, take off
 * its tax exactly.
 */

/** A tax by its short name, with its rate in basis points. Without tax, the name is empty and the rate is 0. */
type TaxRate = { code: string; rate: number };

/** An amount with the tax in it. */
export type Taxed = TaxRate & { gross: bigint; tax: bigint };

const basisPoints = 10_000n;

/** The tax in an amount, which is not negative. */
export function taxIn(gross: bigint, rate: number): bigint {
  // Most charges have no tax.
  return rate === 0 ? 0n : divide(gross * BigInt(rate), basisPoints + BigInt(rate));
}

/** The tax that comes on top of an amount. With it, the amount has just that tax in it. */
export function taxOn(net: bigint, rate: number): bigint {
  return divide(net * BigInt(rate), basisPoints);
}

/** The quotient as the nearest integer, half up. */
function divide(dividend: bigint, divisor: bigint): bigint {
  return (2n * dividend + divisor) / (2n * divisor);
}

/** Sums by tax and rate, in their order. There are none if nothing has a tax. */
export function sumByRate(amounts: Taxed[]): Taxed[] {
  if (amounts.every(({ code }) => code === "")) return [];
  const sums = new Map<string, Taxed>();
  for (const { code, rate, gross, tax } of amounts) {
    const key = `${rate} ${code}`;
    const sum = sums.get(key) ?? { code, rate, gross: 0n, tax: 0n };
    sums.set(key, { code, rate, gross: sum.gross + gross, tax: sum.tax + tax });
  }
  return [...sums.values()].sort((a, b) => (a.code === b.code ? a.rate - b.rate : a.code < b.code ? -1 : 1));
}

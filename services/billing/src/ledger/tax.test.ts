import fc from "fast-check";
import { expect, test } from "vitest";
import { sumByRate, taxIn, taxOn } from "./tax.ts";

const amounts = fc.bigInt(1n, 2n * 10n ** 12n);
const rates = fc.integer({ min: 0, max: 10_000 });
const run = (property: fc.IProperty<unknown[]>) => fc.assert(property, { numRuns: 2_000 });

test.each([
  ["19% of 100.00", taxOn(10_000n, 1_900), 1_900n],
  ["19% in 119.00", taxIn(11_900n, 1_900), 1_900n],
  ["19% in 100.00, which is 15.966", taxIn(10_000n, 1_900), 1_597n],
  ["7.25% of 10.00, which is 0.725", taxOn(1_000n, 725), 73n],
  ["5% of 0.10, which is half a cent", taxOn(10n, 500), 1n],
  ["5% of 0.09, which is less", taxOn(9n, 500), 0n],
  ["25% in 0.02, which is 0.4 of a cent", taxIn(2n, 2_500), 0n],
  ["0% of 100.00", taxOn(10_000n, 0), 0n],
  ["0% in 100.00", taxIn(10_000n, 0), 0n],
])("%s is rounded to the nearest minor unit, half up", (_, tax, expected) => {
  expect(tax).toBe(expected);
});

test("a tax is at most half a minor unit away from the exact one", () => {
  run(
    fc.property(amounts, rates, (amount, rate) => {
      const [whole, part] = [10_000n, BigInt(rate)];
      const distance = (tax: bigint, divisor: bigint) => 2n * (tax * divisor - amount * part);
      for (const [tax, divisor] of [
        [taxIn(amount, rate), whole + part],
        [taxOn(amount, rate), whole],
      ] as const) {
        expect(distance(tax, divisor)).toBeLessThanOrEqual(divisor);
        expect(distance(tax, divisor)).toBeGreaterThan(-divisor);
      }
    }),
  );
});

test("an amount to which its tax was added has that tax in it", () => {
  run(
    fc.property(amounts, rates, (net, rate) => {
      const tax = taxOn(net, rate);
      expect(taxIn(net + tax, rate)).toBe(tax);
    }),
  );
});

test("less of an amount has no more tax and no more net", () => {
  run(
    fc.property(amounts, fc.bigInt(0n, 10n ** 12n), rates, (gross, less, rate) => {
      const rest = gross > less ? gross - less : 0n;
      expect(taxIn(rest, rate)).toBeLessThanOrEqual(taxIn(gross, rate));
      expect(rest - taxIn(rest, rate)).toBeLessThanOrEqual(gross - taxIn(gross, rate));
    }),
  );
});

test("sums are one for each tax and rate, and there are none without any tax", () => {
  const amount = (code: string, rate: number, gross: bigint) => ({ code, rate, gross, tax: taxIn(gross, rate) });
  expect(sumByRate([amount("", 0, 5n), amount("", 0, 7n)])).toEqual([]);
  const vat = [amount("VAT", 1_900, 119n), amount("VAT", 700, 107n), amount("VAT", 1_900, 238n), amount("GST", 700, 107n)];
  expect(sumByRate([...vat, amount("", 0, 5n)])).toEqual([
    { code: "", rate: 0, gross: 5n, tax: 0n },
    { code: "GST", rate: 700, gross: 107n, tax: 7n },
    { code: "VAT", rate: 700, gross: 107n, tax: 7n },
    { code: "VAT", rate: 1_900, gross: 357n, tax: 57n },
  ]);
});

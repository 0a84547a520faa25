import fc from "fast-check";
import { expect, test } from "vitest";
import { currencies } from "./currencies.ts";
import { formatMoney, isCurrency, minorUnitDigits } from "./money.ts";

const money = (currencyCode: string, minorUnits: bigint) => ({ currencyCode, minorUnits });

test("an amount has as many decimals as its currency", () => {
  expect(["EUR", "JPY", "KWD", "not a code"].map(minorUnitDigits)).toEqual([2, 0, 3, 2]);
  expect(formatMoney(money("EUR", 123_450n))).toBe("€1,234.50");
  expect(formatMoney(money("JPY", 1_234n))).toBe("¥1,234");
  expect(formatMoney(money("KWD", -5n))).toBe("-KWD\u00a00.005");
  expect(formatMoney(money("EUR", 123_450n), "code")).toBe("EUR 1,234.50");
  expect(formatMoney(money("JPY", -1_234n), "code")).toBe("−JPY 1,234");
  expect(formatMoney(money("EUR", 5n), "code")).toBe("EUR 0.05");
});

test("the digits are those of ISO 4217, where CLDR has fewer or none", () => {
  expect(formatMoney(money("HUF", 123_456n))).toBe("HUF\u00a01,234.56");
  expect(formatMoney(money("HUF", 123_456n), "code")).toBe("HUF 1,234.56");
  const two = ["AFN", "ALL", "COP", "HUF", "IDR", "IRR", "KPW", "LAK", "LBP", "MGA", "MMK", "PKR", "SOS", "SYP", "YER"];
  expect(two.map(minorUnitDigits)).toEqual(two.map(() => 2));
  expect(["IQD", "CLF", "UYW", "ISK", "UYI"].map(minorUnitDigits)).toEqual([3, 4, 4, 0, 0]);
  expect(formatMoney(money("CLF", 12_345_678n))).toBe("CLF\u00a01,234.5678");
});

test("an amount in a withdrawn currency stays readable", () => {
  expect(["HRK", "CUC", "ZWL", "BGN"].map(isCurrency)).toEqual([false, false, false, false]);
  expect(formatMoney(money("HRK", 123_450n))).toBe("HRK\u00a01,234.50");
});

test("no amount is an empty text", () => {
  expect(formatMoney(undefined)).toBe("");
});

test("an amount is written with every digit that it has", () => {
  fc.assert(
    fc.property(fc.bigInt(-(2n ** 62n), 2n ** 62n), fc.constantFrom("HRK", ...currencies.keys()), (minorUnits, currency) => {
      for (const form of ["symbol", "code"] as const) {
        const digits = formatMoney(money(currency, minorUnits), form).replace(/\D/g, "");
        expect(BigInt(digits)).toBe(minorUnits < 0n ? -minorUnits : minorUnits);
      }
    }),
  );
});

test("a currency is one of ISO 4217, in capitals", () => {
  expect(["EUR", "KWD", "CLF", "UYW", "eur", "EURO", "XQX", "XAU", ""].map(isCurrency)).toEqual([
    ...Array(4).fill(true),
    ...Array(5).fill(false),
  ]);
});

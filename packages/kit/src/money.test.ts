import fc from "fast-check";
import { expect, test } from "vitest";
import { formatMoney, formatMoneyWithCode, isCurrency, minorUnitDigits } from "./money.ts";

const money = (currencyCode: string, minorUnits: bigint) => ({ currencyCode, minorUnits });

test("an amount has as many decimals as its currency", () => {
  expect(["EUR", "JPY", "KWD", "not a code"].map(minorUnitDigits)).toEqual([2, 0, 3, 2]);
  expect(formatMoney(money("EUR", 123_450n))).toBe("€1,234.50");
  expect(formatMoney(money("JPY", 1_234n))).toBe("¥1,234");
  expect(formatMoney(money("KWD", -5n))).toBe("-KWD\u00a00.005");
  expect(formatMoneyWithCode(money("EUR", 123_450n))).toBe("EUR 1,234.50");
  expect(formatMoneyWithCode(money("JPY", -1_234n))).toBe("−JPY 1,234");
  expect(formatMoneyWithCode(money("EUR", 5n))).toBe("EUR 0.05");
});

test("no amount is an empty text", () => {
  expect(formatMoney(undefined)).toBe("");
});

test("an amount is written with every digit that it has", () => {
  fc.assert(
    fc.property(fc.bigInt(-(2n ** 62n), 2n ** 62n), fc.constantFrom("EUR", "JPY", "KWD"), (minorUnits, currency) => {
      for (const format of [formatMoney, formatMoneyWithCode]) {
        const digits = format(money(currency, minorUnits)).replace(/\D/g, "");
        expect(BigInt(digits)).toBe(minorUnits < 0n ? -minorUnits : minorUnits);
      }
    }),
  );
});

test("a currency is one of ISO 4217, in capitals", () => {
  expect(["EUR", "KWD", "eur", "EURO", "XQX", ""].map(isCurrency)).toEqual([true, true, false, false, false, false]);
});

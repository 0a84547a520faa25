/** Billing as FHIR: whatever an amount, a line or a payment is, FHIR says the same. */
import { create } from "@bufbuild/protobuf";
import { currencies } from "@pm/kit/currencies";
import { ChargeSchema, InvoiceSchema, InvoiceStatus, PaymentSchema } from "@pm/proto/billing/v1/billing";
import type { Money } from "@pm/proto/common/v1/money";
import fc from "fast-check";
import { expect, test } from "vitest";
import { statuses as accountStatuses } from "../src/accounts/mapping.ts";
import { toMoney } from "../src/billing/elements.ts";
import { toChargeItem } from "../src/charges/mapping.ts";
import { statuses, toInvoice } from "../src/invoices/mapping.ts";
import { toPaymentReconciliation } from "../src/payments/mapping.ts";

const largest = 2n ** 53n;
const amounts = fc.bigInt({ min: -largest, max: largest });
const currencyCodes = fc.constantFrom(...currencies.keys());

/** The minor units that the digits of a decimal say. */
const unitsIn = (json: string) => BigInt((/"value":(-?[\d.]+)/.exec(json)?.[1] ?? "").replace(".", ""));
const unitsOf = (money: object | undefined) => unitsIn(JSON.stringify(money));

test("an amount is a decimal with the digits of its currency, exact to 2^53 minor units", () => {
  expect(JSON.stringify(toMoney({ minorUnits: 1_250n, currencyCode: "EUR" } as Money))).toBe('{"value":12.50,"currency":"EUR"}');
  expect(JSON.stringify(toMoney({ minorUnits: -5n, currencyCode: "EUR" } as Money))).toBe('{"value":-0.05,"currency":"EUR"}');
  expect(JSON.stringify(toMoney({ minorUnits: 1_250n, currencyCode: "JPY" } as Money))).toBe('{"value":1250,"currency":"JPY"}');
  expect(JSON.stringify(toMoney({ minorUnits: 1_250n, currencyCode: "KWD" } as Money))).toBe('{"value":1.250,"currency":"KWD"}');
  fc.assert(
    fc.property(amounts, currencyCodes, (minorUnits, currencyCode) => {
      const json = JSON.stringify(toMoney({ minorUnits, currencyCode } as Money));
      const digits = currencies.get(currencyCode) ?? 0;
      expect(json).toMatch(new RegExp(`^\\{"value":-?(0|[1-9]\\d*)${digits === 0 ? "" : `\\.\\d{${digits}}`},"currency":"[A-Z]{3}"\\}$`));
      expect(unitsIn(json)).toBe(minorUnits);
    }),
  );
});

const lines = fc.array(
  fc.record({ net: fc.bigInt({ min: -10_000n, max: 1_000_000n }), tax: fc.option(fc.bigInt({ min: 0n, max: 100_000n })) }),
  { minLength: 1, maxLength: 20 },
);

test("the components of an invoice's lines sum up to its gross total, and less their taxes to its net total", () => {
  fc.assert(
    fc.property(lines, fc.constantFrom("EUR", "JPY", "KWD"), (all, currencyCode) => {
      const money = (minorUnits: bigint) => ({ minorUnits, currencyCode });
      const sum = (of: bigint[]) => of.reduce((total, each) => total + each, 0n);
      const taxed = all.map(({ net, tax }) => ({
        ...{ chargeId: "c", description: "Visit", serviceDate: "2026-01-28", amount: money(net + (tax ?? 0n)) },
        ...(tax !== null && { tax: { code: "VAT", rateBasisPoints: 1_900, net: money(net), tax: money(tax), gross: money(net + tax) } }),
      }));
      const total = sum(taxed.map(({ amount }) => amount.minorUnits));
      const tax = sum(all.map((line) => line.tax ?? 0n));
      const taxes = [{ code: "VAT", rateBasisPoints: 1_900, tax: money(tax) }];
      const { lineItem = [], totalGross, totalNet } = toInvoice(create(InvoiceSchema, { lines: taxed, total: money(total), taxes }));
      const components = lineItem.flatMap(({ priceComponent = [] }) => priceComponent);
      expect(sum(components.map(({ amount }) => unitsOf(amount)))).toBe(total);
      expect(unitsOf(totalGross)).toBe(total);
      expect(unitsOf(totalNet)).toBe(total - tax);
    }),
  );
});

test("every state of an invoice and of an account is found by the status that it is shown with", () => {
  for (const status of Object.values(InvoiceStatus).filter((each) => typeof each === "number" && each > 0) as InvoiceStatus[]) {
    const shown = toInvoice(create(InvoiceSchema, { status })).status as keyof typeof statuses;
    expect(statuses[shown]).toContain(status);
  }
  expect(Object.values(accountStatuses).flat().sort()).toEqual([1, 2, 3]);
});

test("an erased text and an empty list leave no empty element behind", () => {
  const zero = { minorUnits: 0n, currencyCode: "EUR" };
  const [amount, outstanding, reduced, writtenOff, credited, total, refunded, credit] = Array(8).fill(zero);
  const owner = { accountId: "a", patientId: "p" };
  const charge = toChargeItem(
    create(ChargeSchema, { ...owner, chargeId: "c", serviceDate: "2026-01-28", amount, outstanding, reduced, writtenOff }),
  );
  expect(charge.code.extension?.[0]?.valueCode).toBe("masked");
  const payment = toPaymentReconciliation(
    create(PaymentSchema, { ...owner, paymentId: "x", paymentDate: "2026-01-28", amount, refunded, credit }),
  );
  const sums = { total, outstanding, credited, writtenOff };
  const invoice = toInvoice(
    create(InvoiceSchema, { ...owner, ...sums, invoiceId: "i", etag: "v1", addressee: {}, status: InvoiceStatus.DRAFT }),
  );
  for (const resource of [charge, payment, invoice]) expect(JSON.stringify(resource)).not.toMatch(/"":|:""|:\[\]|:\{\}|:null/);
});

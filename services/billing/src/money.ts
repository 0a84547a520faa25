/** Amounts: whole minor units with an ISO 4217 currency. Signed sums stay bigint; nothing here ever rounds. */
import { create } from "@bufbuild/protobuf";
import { type Money, MoneySchema } from "@pm/proto/common/v1/money";

const currencies = new Set(Intl.supportedValuesOf("currency"));

/** Whether a code is a currency of ISO 4217, as the runtime's CLDR data lists them. */
export function isCurrency(code: string): boolean {
  return currencies.has(code);
}

export function toMoney(minorUnits: bigint, currencyCode: string): Money {
  return create(MoneySchema, { minorUnits, currencyCode });
}

// Making a format takes a hundred times as long as using it.
const formats = new Map<string, Intl.NumberFormat>();

/** An amount as people read it, `€1,234.50`; exact, because it is made from digits and never from a floating-point number. */
export function formatMoney(money: Pick<Money, "currencyCode" | "minorUnits"> | undefined): string {
  if (!money) return "";
  const format = formats.get(money.currencyCode) ?? new Intl.NumberFormat("en", { style: "currency", currency: money.currencyCode });
  formats.set(money.currencyCode, format);
  const fraction = format.resolvedOptions().maximumFractionDigits ?? 2;
  const digits = String(money.minorUnits < 0n ? -money.minorUnits : money.minorUnits).padStart(fraction + 1, "0");
  const [whole, rest] = [digits.slice(0, digits.length - fraction), digits.slice(digits.length - fraction)];
  const decimal = `${money.minorUnits < 0n ? "-" : ""}${whole}${rest && `.${rest}`}`;
  return format.format(decimal as Intl.StringNumericLiteral);
}

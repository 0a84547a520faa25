/**
 * Amounts of money as people read them. Amounts are whole minor units; their digits are cut, never divided, so nothing
 * is rounded.
 */
import { LRUCache } from "lru-cache";
import { currencies } from "./currencies.ts";

/** As in the message `common.v1.Money`. */
type MoneyAmount = { currencyCode: string; minorUnits: bigint };

/** Whether a code is a currency of ISO 4217 today. Amounts in withdrawn ones stay readable. */
export function isCurrency(code: string): boolean {
  return currencies.has(code);
}

// Creating a format takes a hundred times as long as using it. There are some 170 currencies.
const formats = new LRUCache<string, Intl.NumberFormat>({ max: 200 });

function formatOf(currencyCode: string): Intl.NumberFormat {
  const digits = minorUnitDigits(currencyCode);
  const format =
    formats.get(currencyCode) ??
    new Intl.NumberFormat("en", {
      style: "currency",
      currency: currencyCode,
      minimumFractionDigits: digits,
      maximumFractionDigits: digits,
    });
  formats.set(currencyCode, format);
  return format;
}

/** How many decimals a currency has: 2 for EUR, 0 for JPY; 2 for a withdrawn or unknown code. */
export function minorUnitDigits(currencyCode: string): number {
  return currencies.get(currencyCode) ?? 2;
}

/** The digits before and after the decimal point, without a sign: `["1234", "50"]`. */
function digitsOf({ currencyCode, minorUnits }: MoneyAmount): [whole: string, fraction: string] {
  const decimals = minorUnitDigits(currencyCode);
  const digits = String(minorUnits < 0n ? -minorUnits : minorUnits).padStart(decimals + 1, "0");
  return [digits.slice(0, digits.length - decimals), digits.slice(digits.length - decimals)];
}

/** `-1234.50`: the digits of the currency and no others, for programs. */
export function toDecimal(money: MoneyAmount): string {
  const [whole, fraction] = digitsOf(money);
  return `${money.minorUnits < 0n ? "-" : ""}${whole}${fraction && `.${fraction}`}`;
}

/** `€1,234.50`; an empty text if there is no amount. @throws RangeError if the code does not have three letters */
export function formatMoney(money: MoneyAmount | undefined): string {
  if (!money) return "";
  return formatOf(money.currencyCode).format(toDecimal(money) as Intl.StringNumericLiteral);
}

const thousands = new Intl.NumberFormat("en");

/**
 * `EUR 1,234.50`, for charts and tables that name several currencies; negative amounts have a minus sign (U+2212) in
 * front.
 */
export function formatMoneyWithCode(money: MoneyAmount): string {
  const [whole, fraction] = digitsOf(money);
  return `${money.minorUnits < 0n ? "−" : ""}${money.currencyCode} ${thousands.format(BigInt(whole))}${fraction && `.${fraction}`}`;
}

/** Money as people read it. Amounts are whole minor units; digits are cut, never divided, so nothing is rounded. */
import { LRUCache } from "lru-cache";
import { currencies } from "./currencies.ts";

/** As in the message `common.v1.Money`. */
type MoneyAmount = { currencyCode: string; minorUnits: bigint };

/** Whether a code is a currency of ISO 4217 today. Amounts in withdrawn ones stay readable. */
export function isCurrency(code: string): boolean {
  return currencies.has(code);
}

/** `symbol`: `€1,234.50`. `code`: `EUR 1,234.50`, for charts and tables that name several currencies. */
type Form = "symbol" | "code";

// Creating a format takes a hundred times as long as using it. There are some 170 currencies, and two forms of each.
const formats = new LRUCache<string, Intl.NumberFormat>({ max: 400 });

function formatOf(currency: string, form: Form): Intl.NumberFormat {
  const key = `${currency} ${form}`;
  const digits = minorUnitDigits(currency);
  const format =
    formats.get(key) ??
    new Intl.NumberFormat("en", {
      ...{ style: "currency", currency, currencyDisplay: form },
      ...{ minimumFractionDigits: digits, maximumFractionDigits: digits },
    });
  formats.set(key, format);
  return format;
}

/** How many decimals a currency has: 2 for EUR, 0 for JPY; 2 for a withdrawn or unknown code. */
export function minorUnitDigits(currencyCode: string): number {
  return currencies.get(currencyCode) ?? 2;
}

/** `-1234.50`: the digits of the currency and no others, for programs. */
export function toDecimal({ currencyCode, minorUnits }: MoneyAmount): string {
  const decimals = minorUnitDigits(currencyCode);
  const digits = String(minorUnits < 0n ? -minorUnits : minorUnits).padStart(decimals + 1, "0");
  const fraction = digits.slice(digits.length - decimals);
  return `${minorUnits < 0n ? "-" : ""}${digits.slice(0, digits.length - decimals)}${decimals > 0 ? `.${fraction}` : ""}`;
}

/** An empty text if there is no amount. @throws RangeError if the code does not have three letters */
export function formatMoney(money: MoneyAmount | undefined, form: Form = "symbol"): string {
  if (!money) return "";
  const text = formatOf(money.currencyCode, form).format(toDecimal(money) as Intl.StringNumericLiteral);
  // Charts and tables use the minus sign U+2212 and an ordinary space.
  return form === "code" ? text.replace("-", "−").replace("\u00a0", " ") : text;
}

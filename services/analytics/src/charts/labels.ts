/** Numbers, amounts and days as people read them. English, whatever the machine speaks, so that charts are the same everywhere. */
import { LRUCache } from "lru-cache";
import type { Interval, LocalDate } from "../calendar.ts";

const counts = new Intl.NumberFormat("en-GB");
const compact = new Intl.NumberFormat("en-GB", { notation: "compact", maximumFractionDigits: 1 });
const day = new Intl.DateTimeFormat("en-GB", { day: "numeric", month: "short", timeZone: "UTC" });
const month = new Intl.DateTimeFormat("en-GB", { month: "short", year: "numeric", timeZone: "UTC" });

export function formatCount(value: number): string {
  return counts.format(value);
}

/** 1.2k, 3.4m. */
export function formatCompact(value: number): string {
  return compact.format(value);
}

export function labelOf(start: LocalDate, interval: Interval): string {
  return (interval === "month" ? month : day).format(Date.parse(`${start}T00:00:00Z`));
}

/** There are some 170 currencies; a formatter for each bar of a chart would take longer than to draw it. */
const knownDigits = new LRUCache<string, number>({ max: 200 });

/** How many minor units make a major one, as a power of ten: 2 for EUR, 0 for JPY. */
function digitsOf(currency: string): number {
  const known = knownDigits.get(currency);
  if (known !== undefined) return known;
  let found = 2;
  try {
    found = new Intl.NumberFormat("en-GB", { style: "currency", currency }).resolvedOptions().maximumFractionDigits ?? 2;
  } catch {
    // Not the form of a currency's code: then it is written as most are.
  }
  knownDigits.set(currency, found);
  return found;
}

/** For the height of a bar, and for nothing else: sums stay in minor units. */
export function majorUnits(minorUnits: bigint, currency: string): number {
  return Number(minorUnits) / 10 ** digitsOf(currency);
}

/** `EUR 1,234.50`. The decimals are cut from the digits, never divided out. */
export function formatAmount(minorUnits: bigint, currency: string): string {
  const digits = digitsOf(currency);
  const text = String(minorUnits < 0n ? -minorUnits : minorUnits).padStart(digits + 1, "0");
  const whole = counts.format(BigInt(text.slice(0, text.length - digits)));
  const fraction = digits > 0 ? `.${text.slice(-digits)}` : "";
  return `${minorUnits < 0n ? "−" : ""}${currency} ${whole}${fraction}`;
}

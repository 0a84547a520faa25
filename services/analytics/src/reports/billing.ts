/** Charges, payments, and what is outstanding for how long. Amounts are minor units of one currency. */
import type { Instant } from "@pm/kit/calendar";
import { addYears, type Span, spanOf } from "../calendar.ts";
import { agingBuckets, countOf, eachMoneyFlow, measures, moneyFlowMeasures } from "../measures.ts";
import type { Shown } from "../publications/suppression.ts";
import type { Amounts } from "../rollups/amounts.ts";
import { moneyIn } from "../rollups/money.ts";
import type { RollupQuery } from "../rollups/query.ts";
import { endOfSlot } from "../rollups/slots.ts";
import type { Period } from "./period.ts";

/** Null if it is withheld. */
export type ShownAmount = bigint | null;
export type MoneyFlows = ReturnType<typeof eachMoneyFlow<ShownAmount>>;

export type BillingReport = {
  currency: string;
  /** Every currency that has charges. */
  currencies: string[];
  totals: MoneyFlows & { outstandingAtEnd: ShownAmount; creditAtEnd: ShownAmount; charges: Shown; payments: Shown };
  lastYear: MoneyFlows & { from: string; to: string };
  /** What is outstanding at the end, by full days since the charge. */
  aging: { bucket: string; amount: ShownAmount }[];
  series: (MoneyFlows & { start: string; end: string; outstanding: ShownAmount; credit: ShownAmount; aging: ShownAmount[] })[];
};

const { charged, collected, credit } = measures.billing;
const [charges, payments] = [countOf(charged), countOf(collected)];
const openMeasures = agingBuckets.map(({ measure }) => measure);

export async function reportBilling(
  period: Period,
  requestedCurrency: string | undefined,
  rollups: RollupQuery,
  now: Instant,
): Promise<BillingReport> {
  const { spans, timeZone } = period;
  const whole = spanOf(period.from, period.to, timeZone);
  const yearBefore = spanOf(addYears(whole.start, -1), addYears(whole.end, -1), timeZone);
  const [before, within, openWithin, counted, lastYear] = await Promise.all([
    rollups.before([...openMeasures, credit, charges], untilNow(whole, now)),
    rollups.within([...moneyFlowMeasures, credit], spans),
    rollups.within(
      openMeasures,
      spans.map((span) => untilNow(span, now)),
    ),
    rollups.within([charges, payments], [whole]),
    rollups.within(moneyFlowMeasures, [yearBefore]),
  ]);
  const currencies = currenciesIn([before, ...counted]);
  const currency = requestedCurrency ?? currencies[0] ?? "EUR";

  const aging = openMeasures.map((measure) => moneyIn([before], measure, currency));
  let creditSoFar = moneyIn([before], credit, currency);
  const series = spans.map(({ start, end }, index) => {
    const flows = within.slice(index, index + 1);
    openMeasures.forEach((measure, bucket) => {
      aging[bucket] = (aging[bucket] ?? 0n) + moneyIn(openWithin.slice(index, index + 1), measure, currency);
    });
    creditSoFar += moneyIn(flows, credit, currency);
    return { start, end, ...flowsIn(flows, currency), outstanding: total(aging), credit: creditSoFar, aging: [...aging] };
  });
  return {
    currency,
    currencies: currencies.toSorted(),
    totals: {
      ...flowsIn(within, currency),
      outstandingAtEnd: total(aging),
      creditAtEnd: creditSoFar,
      charges: counted[0]?.count(charges, currency) ?? 0,
      payments: counted[0]?.count(payments, currency) ?? 0,
    },
    lastYear: { from: yearBefore.start, to: yearBefore.end, ...flowsIn(lastYear, currency) },
    aging: agingBuckets.map(({ label }, bucket) => ({ bucket: label, amount: aging[bucket] ?? 0n })),
    series,
  };
}

/** What was charged, less what was voided, discounted and credited of it, as far as that is shown. */
export function netOf({ charged, voided, discounted, credited }: MoneyFlows): ShownAmount {
  return charged === null ? null : charged - (voided ?? 0n) - (discounted ?? 0n) - (credited ?? 0n);
}

/** Ageing has facts of the future. A report ends with the current quarter of an hour. */
function untilNow(span: Span, now: Instant): Span {
  const end = endOfSlot(now);
  return { ...span, from: Math.min(span.from, end), until: Math.min(span.until, end) };
}

/** The currencies, the one with the most charges first. */
function currenciesIn(amounts: Amounts[]): string[] {
  const counts = new Map<string, number>();
  for (const each of amounts)
    for (const [currency, count] of each.counts(charges)) counts.set(currency, (counts.get(currency) ?? 0) + count);
  return [...counts].sort(([a, m], [b, n]) => n - m || (a < b ? -1 : 1)).map(([currency]) => currency);
}

function total(amounts: bigint[]): bigint {
  return amounts.reduce((sum, amount) => sum + amount, 0n);
}

function flowsIn(amounts: Amounts[], currency: string) {
  return eachMoneyFlow((measure) => moneyIn(amounts, measure, currency));
}

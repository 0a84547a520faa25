/** What was charged, what came in, and what is still open for how long. Amounts are minor units of one currency. */

import { addYears, type Instant, type Span, spanOf } from "../calendar.ts";
import { agingBuckets } from "../ingest/billing-account.ts";
import type { Amounts, Sums } from "../rollups/query.ts";
import type { Period } from "./period.ts";

export type MoneyFlows = { charged: number; voided: number; collected: number; refunded: number; invoiced: number };

export type BillingReport = {
  currency: string;
  /** Every currency there are charges in. */
  currencies: string[];
  totals: MoneyFlows & { outstandingAtEnd: number; creditAtEnd: number; charges: number; payments: number };
  lastYear: MoneyFlows & { from: string; to: string };
  /** What is outstanding at the end, by full days since the charge. */
  aging: { bucket: string; amount: number }[];
  series: (MoneyFlows & { start: string; end: string; outstanding: number; credit: number; aging: number[] })[];
};

const flowMeasures = ["billing.charged", "billing.voided", "billing.collected", "billing.refunded", "billing.invoiced"];
const countMeasures = ["billing.charged.count", "billing.collected.count"];
const openMeasures = agingBuckets.map(({ measure }) => measure);

export async function reportBilling(period: Period, wantedCurrency: string | undefined, sums: Sums, now: Instant): Promise<BillingReport> {
  const { spans, timeZone } = period;
  const whole = spanOf(period.from, period.to, timeZone);
  const yearBefore = spanOf(addYears(whole.start, -1), addYears(whole.end, -1), timeZone);
  // Charges grow older by facts of the future: what is not yet is not reported.
  const past = spans.map((span) => untilNow(span, now));
  const [before, within, openWithin, counted, lastYear] = await Promise.all([
    sums.before([...openMeasures, "billing.credit", "billing.charged.count"], untilNow(whole, now)),
    sums.within([...flowMeasures, "billing.credit"], spans),
    sums.within(openMeasures, past),
    sums.within(countMeasures, [whole]),
    sums.within(flowMeasures, [yearBefore]),
  ]);
  const currencies = currenciesIn([before, ...counted]);
  const currency = wantedCurrency ?? currencies[0] ?? "EUR";

  const aging = openMeasures.map((measure) => amountOf(measure, currency, [before]));
  let credit = amountOf("billing.credit", currency, [before]);
  const series = spans.map(({ start, end }, index) => {
    const flows = within.slice(index, index + 1);
    openMeasures.forEach((measure, bucket) => {
      aging[bucket] = (aging[bucket] ?? 0) + amountOf(measure, currency, openWithin.slice(index, index + 1));
    });
    credit += amountOf("billing.credit", currency, flows);
    const outstanding = aging.reduce((sum, amount) => sum + amount, 0);
    return { start, end, ...flowsOf(flows, currency), outstanding, credit, aging: [...aging] };
  });
  return {
    currency,
    currencies: currencies.toSorted(),
    totals: {
      ...flowsOf(within, currency),
      outstandingAtEnd: aging.reduce((sum, amount) => sum + amount, 0),
      creditAtEnd: credit,
      charges: amountOf("billing.charged.count", currency, counted),
      payments: amountOf("billing.collected.count", currency, counted),
    },
    lastYear: { from: yearBefore.start, to: yearBefore.end, ...flowsOf(lastYear, currency) },
    aging: agingBuckets.map(({ label }, bucket) => ({ bucket: label, amount: aging[bucket] ?? 0 })),
    series,
  };
}

function untilNow(span: Span, now: Instant): Span {
  const quarterMs = 900_000;
  const soon = (Math.floor(now / quarterMs) + 1) * quarterMs;
  return { ...span, from: Math.min(span.from, soon), until: Math.min(span.until, soon) };
}

/** Currencies by how many charges they have, the most used first. */
function currenciesIn(amounts: Amounts[]): string[] {
  const charges = new Map<string, number>();
  for (const each of amounts)
    for (const [currency, count] of each.values("billing.charged.count")) charges.set(currency, (charges.get(currency) ?? 0) + count);
  return [...charges].sort(([a, m], [b, n]) => n - m || (a < b ? -1 : 1)).map(([currency]) => currency);
}

function amountOf(measure: string, currency: string, amounts: Amounts[]): number {
  return amounts.reduce((sum, each) => sum + each.of(measure, currency), 0);
}

function flowsOf(amounts: Amounts[], currency: string): MoneyFlows {
  const amount = (measure: string) => amountOf(measure, currency, amounts);
  return {
    charged: amount("billing.charged"),
    voided: amount("billing.voided"),
    collected: amount("billing.collected"),
    refunded: amount("billing.refunded"),
    invoiced: amount("billing.invoiced"),
  };
}

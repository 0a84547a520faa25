/** What was charged, what came in, and what is still open for how long. Amounts are minor units of one currency. */

import { addYears, type Instant, type Span, spanOf } from "../calendar.ts";
import { agingBuckets } from "../ingest/billing-account.ts";
import { moneyIn } from "../rollups/money.ts";
import type { Amounts, Sums } from "../rollups/query.ts";
import type { Period } from "./period.ts";

export type MoneyFlows = { charged: bigint; voided: bigint; collected: bigint; refunded: bigint; invoiced: bigint };

export type BillingReport = {
  currency: string;
  /** Every currency there are charges in. */
  currencies: string[];
  totals: MoneyFlows & { outstandingAtEnd: bigint; creditAtEnd: bigint; charges: number; payments: number };
  lastYear: MoneyFlows & { from: string; to: string };
  /** What is outstanding at the end, by full days since the charge. */
  aging: { bucket: string; amount: bigint }[];
  series: (MoneyFlows & { start: string; end: string; outstanding: bigint; credit: bigint; aging: bigint[] })[];
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

  const aging = openMeasures.map((measure) => moneyIn([before], measure, currency));
  let credit = moneyIn([before], "billing.credit", currency);
  const series = spans.map(({ start, end }, index) => {
    const flows = within.slice(index, index + 1);
    openMeasures.forEach((measure, bucket) => {
      aging[bucket] = (aging[bucket] ?? 0n) + moneyIn(openWithin.slice(index, index + 1), measure, currency);
    });
    credit += moneyIn(flows, "billing.credit", currency);
    return { start, end, ...flowsOf(flows, currency), outstanding: total(aging), credit, aging: [...aging] };
  });
  return {
    currency,
    currencies: currencies.toSorted(),
    totals: {
      ...flowsOf(within, currency),
      outstandingAtEnd: total(aging),
      creditAtEnd: credit,
      charges: counted[0]?.count("billing.charged.count", currency) ?? 0,
      payments: counted[0]?.count("billing.collected.count", currency) ?? 0,
    },
    lastYear: { from: yearBefore.start, to: yearBefore.end, ...flowsOf(lastYear, currency) },
    aging: agingBuckets.map(({ label }, bucket) => ({ bucket: label, amount: aging[bucket] ?? 0n })),
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
    for (const [currency, count] of each.counts("billing.charged.count")) charges.set(currency, (charges.get(currency) ?? 0) + count);
  return [...charges].sort(([a, m], [b, n]) => n - m || (a < b ? -1 : 1)).map(([currency]) => currency);
}

function total(amounts: bigint[]): bigint {
  return amounts.reduce((sum, amount) => sum + amount, 0n);
}

function flowsOf(amounts: Amounts[], currency: string): MoneyFlows {
  const amount = (measure: string) => moneyIn(amounts, measure, currency);
  return {
    charged: amount("billing.charged"),
    voided: amount("billing.voided"),
    collected: amount("billing.collected"),
    refunded: amount("billing.refunded"),
    invoiced: amount("billing.invoiced"),
  };
}

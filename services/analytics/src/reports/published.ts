/**
 * Reports for callers without analytics:detail: published figures, and sums of them. They ask nothing else, so no
 * report tells more than the publications. A sum counts a figure in the week that shows it, and may be of weeks before.
 */
import { addDays, type LocalDate } from "@pm/kit/calendar";
import { agingBuckets, countOf, type Dimension, eachMoneyFlow, failureReasons, measures, patientFlows } from "../measures.ts";
import { amountMeasures, registeredByPlace } from "../publications/figures.ts";
import { type PublishedFigure, readFigures, readSums } from "../publications/store.ts";
import { isLargeEnough, type Shown } from "../publications/suppression.ts";
import type { AnalyticsDatabase } from "../tables.ts";
import type { ActivityReport } from "./activity.ts";
import type { BillingReport, MoneyFlows, ShownAmount } from "./billing.ts";
import { type Breakdown, fixedValues, maxRows } from "./breakdown.ts";
import type { PatientFlows, PatientReport } from "./patients.ts";
import { type Weeks, yearBefore } from "./period.ts";
import { type SummaryReport, summaryOf } from "./summary.ts";

const { registered, deleted, restored, merged, unmerged, registeredBy } = measures.patients;

export async function publishedPatients(weeks: Weeks, db: AnalyticsDatabase): Promise<PatientReport> {
  const changes = patientFlows.map(({ measure }) => measure);
  const figures = figuresFrom(weeks, await readFigures(db, changes, weeks.to));
  const flowsIn = (from: LocalDate, to: LocalDate): PatientFlows => {
    const count = (measure: string) => toCount(figures.sum(measure, "", from, to));
    return {
      registered: count(registered),
      deleted: count(deleted),
      restored: count(restored),
      merged: count(merged),
      unmerged: count(unmerged),
      net: toCount(net(from, to)),
    };
  };
  /** What is shown of the changes. It is null if nothing of them is. */
  const net = (from: LocalDate, to: LocalDate): bigint | null => {
    const shown = patientFlows.map(({ measure, sign }) => ({ sign, amount: figures.sum(measure, "", from, to) }));
    const isHidden = shown.some(({ amount }) => amount === null) && shown.every(({ amount }) => !amount);
    return isHidden ? null : shown.reduce((sum, { sign, amount }) => sum + sign * (amount ?? 0n), 0n);
  };
  const activeUntil = (to: LocalDate) => toCount(net(beginning, to));
  const lastYear = { from: yearBefore(weeks.from), to: yearBefore(weeks.to) };
  return {
    totals: { ...flowsIn(weeks.from, weeks.to), activeAtStart: activeUntil(addDays(weeks.from, -1)), activeAtEnd: activeUntil(weeks.to) },
    lastYear: { ...lastYear, ...flowsIn(lastYear.from, lastYear.to) },
    series: weeks.mondays.map((start) => ({
      start,
      end: addDays(start, 6),
      ...flowsIn(start, start),
      active: activeUntil(start),
      registeredLastYear: toCount(figures.sum(registered, "", yearBefore(start), yearBefore(start))),
    })),
  };
}

/**
 * Registrations by sex, age, city or state. How many patients are active now is not published: beside the figures of
 * registrations, it would tell single deletions.
 */
export async function publishedBreakdown(weeks: Weeks, by: Dimension, db: AnalyticsDatabase): Promise<Breakdown> {
  const isPlace = by === "city" || by === "state";
  const measure = isPlace ? registeredByPlace : registeredBy[by];
  const parts = await readSums(db, measure, weeks);
  const sums = new Map<string, bigint>();
  for (const { value, amount } of parts) {
    const [state = "", city = ""] = isPlace ? (JSON.parse(value) as string[]) : [];
    const key = by === "state" ? state : by === "city" ? city : value;
    sums.set(key, (sums.get(key) ?? 0n) + amount);
  }
  const fixed = fixedValues(by);
  const rows = (fixed ?? [...sums.keys()]).map((value) => ({ value, registered: toCount(sums.get(value) ?? null), active: null }));
  if (!fixed) rows.sort((a, b) => (b.registered ?? 0) - (a.registered ?? 0) || (a.value < b.value ? -1 : 1));
  // A place is named once a count of it is shown: that a patient lives there is also a small count.
  const named = fixed ? rows : rows.filter((row) => (row.registered ?? 0) > 0);
  return { by, rows: named.slice(0, maxRows), hidden: true, truncated: named.length > maxRows };
}

const [charges, payments] = [countOf(measures.billing.charged), countOf(measures.billing.collected)];

/** What is outstanding is not published: beside the figures of charges and payments, it would tell single voids. */
export async function publishedBilling(weeks: Weeks, requestedCurrency: string | undefined, db: AnalyticsDatabase): Promise<BillingReport> {
  const rows = await readFigures(db, [...amountMeasures, charges, payments], weeks.to);
  const figures = figuresFrom(weeks, rows);
  const currencies = [...new Set(rows.filter(({ amount }) => amount).map(({ value }) => value))];
  const chargesOf = (currency: string) => Number(figures.sum(charges, currency, beginning, weeks.to) ?? 0n);
  const byCharges = currencies.toSorted((a, b) => chargesOf(b) - chargesOf(a) || (a < b ? -1 : 1));
  const currency = requestedCurrency ?? byCharges[0] ?? "EUR";
  // Of a currency of few accounts, not even that it is used is told.
  const sumOf = (measure: string, from: LocalDate, to: LocalDate): ShownAmount =>
    currencies.includes(currency) ? figures.sum(measure, currency, from, to) : null;
  const flowsIn = (from: LocalDate, to: LocalDate): MoneyFlows =>
    eachMoneyFlow((measure) => (amountMeasures.includes(measure) ? sumOf(measure, from, to) : null));
  const lastYear = { from: yearBefore(weeks.from), to: yearBefore(weeks.to) };
  return {
    currency,
    currencies: currencies.toSorted(),
    totals: {
      ...flowsIn(weeks.from, weeks.to),
      outstandingAtEnd: null,
      creditAtEnd: null,
      charges: toCount(sumOf(charges, weeks.from, weeks.to)),
      payments: toCount(sumOf(payments, weeks.from, weeks.to)),
    },
    lastYear: { ...lastYear, ...flowsIn(lastYear.from, lastYear.to) },
    aging: agingBuckets.map(({ label }) => ({ bucket: label, amount: null })),
    series: weeks.mondays.map((start) => ({
      start,
      end: addDays(start, 6),
      ...flowsIn(start, start),
      outstanding: null,
      credit: null,
      aging: agingBuckets.map(() => null),
    })),
  };
}

const { signedIn, failed, failedBy, sessionsEnded, usersDisabled } = measures.activity;

export async function publishedActivity(weeks: Weeks, db: AnalyticsDatabase): Promise<ActivityReport> {
  const all = [signedIn, failed, failedBy, sessionsEnded, usersDisabled];
  const figures = figuresFrom(weeks, await readFigures(db, all, weeks.to));
  const flowsIn = (from: LocalDate, to: LocalDate) => {
    const count = (measure: string) => toCount(figures.sum(measure, "", from, to));
    return { signedIn: count(signedIn), failed: count(failed), sessionsEnded: count(sessionsEnded), usersDisabled: count(usersDisabled) };
  };
  const lastYear = { from: yearBefore(weeks.from), to: yearBefore(weeks.to) };
  return {
    totals: flowsIn(weeks.from, weeks.to),
    lastYear: { ...lastYear, ...flowsIn(lastYear.from, lastYear.to) },
    failures: failureReasons.map((reason) => ({ reason, count: toCount(figures.sum(failedBy, reason, weeks.from, weeks.to) || null) })),
    series: weeks.mondays.map((start) => ({ start, end: addDays(start, 6), ...flowsIn(start, start) })),
  };
}

export async function publishedSummary(weeks: Weeks, currency: string | undefined, db: AnalyticsDatabase): Promise<SummaryReport> {
  const [patients, billing, activity] = await Promise.all([
    publishedPatients(weeks, db),
    publishedBilling(weeks, currency, db),
    publishedActivity(weeks, db),
  ]);
  return summaryOf(patients, billing, activity);
}

const beginning = "0001-01-01";

/** A difference of figures that are shown may be small; it is withheld too, so that no small number is ever shown. */
function toCount(sum: bigint | null): Shown {
  return sum === null || !isLargeEnough(sum) ? null : Number(sum);
}

function figuresFrom({ published }: Weeks, rows: PublishedFigure[]) {
  const byKey = Map.groupBy(rows, ({ measure, value }) => `${measure} ${value}`);
  return {
    /** What the weeks of some days have shown; null if none is published, or if they have only figures that wait. */
    sum(measure: string, value: string, from: LocalDate, to: LocalDate): bigint | null {
      if (!published || to < published.first || from > addDays(published.last, 6)) return null;
      let sum: bigint | null = null;
      let waits = false;
      for (const { week, amount } of byKey.get(`${measure} ${value}`) ?? []) {
        if (week < from || week > to) continue;
        if (amount === null) waits = true;
        else if (amount !== 0n) sum = (sum ?? 0n) + amount;
      }
      return sum ?? (waits ? null : 0n);
    },
  };
}

/** The charts of the reports. */
import { formatMoney } from "@pm/kit/money";
import { formatCount, labelOf, majorUnits } from "../charts/labels.ts";
import type { Chart } from "../charts/renderer.ts";
import { agingBuckets, type Dimension } from "../measures.ts";
import type { Shown } from "../publications/suppression.ts";
import type { ActivityReport } from "./activity.ts";
import { type BillingReport, netOf, type ShownAmount } from "./billing.ts";
import type { Breakdown } from "./breakdown.ts";
import type { PatientReport } from "./patients.ts";
import type { Head, Source } from "./reports.ts";

const periodText = ({ from, to, timeZone }: Head) => `${from} to ${to} (${timeZone})`;
/** How a count or an amount is written if it is hidden. */
const hidden = "hidden";
export const countText = (count: Shown) => (count === null ? hidden : formatCount(count));
/** Writes amounts of a currency. */
export const moneyText = (currencyCode: string) => (minorUnits: ShownAmount) =>
  minorUnits === null ? hidden : formatMoney({ currencyCode, minorUnits }, "code");
/** How far a report goes. */
function asOfText({ asOf, publishedTo }: Source): string {
  if (asOf === null) return publishedTo === null ? "Nothing is published yet." : `Published up to ${publishedTo}.`;
  return asOf.eventTime === null ? "No events yet." : `As of ${asOf.eventTime}.`;
}
/** What is shown of two counts; null if both are hidden. */
const bothOf = (a: Shown, b: Shown): Shown => (a === null && b === null ? null : (a ?? 0) + (b ?? 0));
const inMajorOf = (amount: ShownAmount, currency: string) => (amount === null ? null : majorUnits(amount, currency));
/** Less than nothing, for the bars below the axis. */
const below = (count: Shown): Shown => (count === null ? null : -count);

export function registrationsChart(report: Head & PatientReport): Chart {
  const { series, totals, lastYear, interval } = report;
  return {
    title: `Registrations per ${interval}`,
    description: `${countText(totals.registered)} patients registered from ${periodText(report)}; ${countText(lastYear.registered)} in the same days a year before. ${asOfText(report)}`,
    categories: series.map(({ start }) => labelOf(start, interval)),
    series: [
      { name: "Registered", kind: "bar", color: 0, values: series.map((row) => row.registered) },
      { name: "Same days last year", kind: "line", color: 1, dashed: true, values: series.map((row) => row.registeredLastYear) },
    ],
  };
}

export function activePatientsChart(report: Head & PatientReport): Chart {
  const { series, totals, interval } = report;
  return {
    title: "Active patients",
    description: `From ${countText(totals.activeAtStart)} to ${countText(totals.activeAtEnd)} active patients, ${periodText(report)}. ${asOfText(report)}`,
    categories: series.map(({ start }) => labelOf(start, interval)),
    series: [{ name: "Active", kind: "line", color: 0, values: series.map((row) => row.active) }],
  };
}

export function flowsChart(report: Head & PatientReport): Chart {
  const { series, totals, interval } = report;
  return {
    title: "Patients gained and lost",
    description: `Net change ${countText(totals.net)}, ${periodText(report)}: ${countText(totals.registered)} registered, ${countText(bothOf(totals.restored, totals.unmerged))} came back, ${countText(totals.deleted)} deleted, ${countText(totals.merged)} merged into others. ${asOfText(report)}`,
    categories: series.map(({ start }) => labelOf(start, interval)),
    series: [
      { name: "Registered", kind: "bar", stack: "flows", color: 0, values: series.map((row) => row.registered) },
      { name: "Came back", kind: "bar", stack: "flows", color: 2, values: series.map((row) => bothOf(row.restored, row.unmerged)) },
      { name: "Deleted", kind: "bar", stack: "flows", color: 1, values: series.map((row) => below(row.deleted)) },
      { name: "Merged", kind: "bar", stack: "flows", color: 3, values: series.map((row) => below(row.merged)) },
    ],
  };
}

export const dimensionNames: Record<Dimension, string> = { sex: "sex", ageBand: "age", city: "city", state: "state" };
const maxBreakdownRows = 20;

export function breakdownChart(report: Head & { breakdown: Breakdown }): Chart {
  const { breakdown } = report;
  const rows = breakdown.rows.slice(0, maxBreakdownRows);
  const hasActive = rows.some(({ active }) => active !== null);
  const note = breakdown.hidden ? " Small counts are hidden." : "";
  return {
    title: `${hasActive ? "Patients" : "Registrations"} by ${dimensionNames[breakdown.by]}`,
    description: `Registered from ${periodText(report)}${hasActive ? ", and active now" : ""}.${note} ${asOfText(report)}`,
    categories: rows.map(
      ({ value, registered, active }) => `${value || "not known"}${registered === null || (hasActive && active === null) ? " *" : ""}`,
    ),
    series: [
      ...(hasActive ? [{ name: "Active", kind: "bar" as const, color: 0, values: rows.map((row) => row.active) }] : []),
      { name: "Registered", kind: "bar", color: 1, values: rows.map((row) => row.registered) },
    ],
    horizontal: true,
    height: 60 + rows.length * 34,
  };
}

/** Undefined if the breakdown is not by age. */
export function pyramidChart(report: Head & { breakdown: Breakdown }): Chart | undefined {
  const { rows, pyramid } = report.breakdown;
  if (!pyramid) return undefined;
  const bars = rows.map(({ value }, index) => ({ value, ...(pyramid[index] ?? { female: null, male: null, other: null }) })).reverse();
  return {
    title: "Active patients by age and sex",
    description: `An age pyramid: women to the left, men and others to the right. ${asOfText(report)}`,
    categories: bars.map(({ value }) => value || "not known"),
    series: [
      { name: "Female", kind: "bar", stack: "pyramid", color: 3, values: bars.map((bar) => below(bar.female)) },
      { name: "Male", kind: "bar", stack: "pyramid", color: 0, values: bars.map((bar) => bar.male) },
      { name: "Other or not known", kind: "bar", stack: "pyramid", color: 4, values: bars.map((bar) => bar.other) },
    ],
    horizontal: true,
    height: 380,
    mirrored: true,
  };
}

export function moneyChart(report: Head & BillingReport): Chart {
  const { series, totals, currency, interval } = report;
  const money = moneyText(currency);
  const inMajor = (amount: ShownAmount) => inMajorOf(amount, currency);
  return {
    title: `Charged and collected per ${interval}, ${currency}`,
    description: `${money(netOf(totals))} charged, ${money(totals.collected)} collected and ${money(totals.refunded)} refunded from ${periodText(report)}. ${asOfText(report)}`,
    categories: series.map(({ start }) => labelOf(start, interval)),
    series: [
      { name: "Charged", kind: "bar", color: 0, values: series.map((row) => inMajor(netOf(row))) },
      { name: "Collected", kind: "bar", color: 2, values: series.map((row) => inMajor(row.collected)) },
      { name: "Refunded", kind: "bar", color: 1, values: series.map((row) => inMajor(row.refunded)) },
    ],
  };
}

/** From the newest charges to the oldest: each colour is more urgent than the one before. */
const agingColors = [0, 2, 1, 3];

export function outstandingChart(report: Head & BillingReport): Chart {
  const { series, totals, currency, interval } = report;
  const money = moneyText(currency);
  return {
    title: `Outstanding by age, ${currency}`,
    description: `${money(totals.outstandingAtEnd)} outstanding at the end, ${periodText(report)}; stacked by days since the charge. ${asOfText(report)}`,
    categories: series.map(({ start }) => labelOf(start, interval)),
    series: agingBuckets.map(({ label }, bucket) => ({
      name: `${label} days`,
      kind: "bar",
      stack: "open",
      color: agingColors[bucket] ?? 0,
      values: series.map((row) => inMajorOf(row.aging[bucket] ?? null, currency)),
    })),
  };
}

export function agingChart(report: Head & BillingReport): Chart {
  const { aging, currency } = report;
  const money = moneyText(currency);
  return {
    title: `Ageing at the end, ${currency}`,
    description: `${aging.map(({ bucket, amount }) => `${bucket} days: ${money(amount)}`).join("; ")}. ${asOfText(report)}`,
    categories: aging.map(({ bucket }) => `${bucket} days`),
    series: [{ name: "Open", kind: "bar", color: 0, values: aging.map(({ amount }) => inMajorOf(amount, currency)) }],
  };
}

export function signInsChart(report: Head & ActivityReport): Chart {
  const { series, totals, interval } = report;
  return {
    title: `Sign-ins per ${interval}`,
    description: `${countText(totals.signedIn)} sign-ins and ${countText(totals.failed)} failed attempts from ${periodText(report)}. ${asOfText(report)}`,
    categories: series.map(({ start }) => labelOf(start, interval)),
    series: [
      { name: "Signed in", kind: "bar", stack: "all", color: 0, values: series.map((row) => row.signedIn) },
      { name: "Failed", kind: "bar", stack: "all", color: 1, values: series.map((row) => row.failed) },
    ],
  };
}

/** The charts of the reports. */
import { formatMoneyWithCode } from "@pm/kit/money";
import { formatCount, labelOf, majorUnits } from "../charts/labels.ts";
import type { Chart } from "../charts/renderer.ts";
import { agingBuckets, type Dimension } from "../measures.ts";
import type { ActivityReport } from "./activity.ts";
import type { BillingReport } from "./billing.ts";
import type { Breakdown } from "./breakdown.ts";
import type { PatientReport } from "./patients.ts";
import type { Head } from "./reports.ts";

const periodText = ({ from, to, timeZone }: Head) => `${from} to ${to} (${timeZone})`;
const moneyText =
  ({ currency: currencyCode }: BillingReport) =>
  (minorUnits: bigint) =>
    formatMoneyWithCode({ currencyCode, minorUnits });
const asOfText = ({ asOf }: Head) => (asOf.eventTime === null ? "No events yet." : `As of ${asOf.eventTime}.`);

export function registrationsChart(report: Head & PatientReport): Chart {
  const { series, totals, lastYear, interval } = report;
  return {
    title: `Registrations per ${interval}`,
    description: `${formatCount(totals.registered)} patients registered from ${periodText(report)}; ${formatCount(lastYear.registered)} in the same days a year before. ${asOfText(report)}`,
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
    description: `From ${formatCount(totals.activeAtStart)} to ${formatCount(totals.activeAtEnd)} active patients, ${periodText(report)}. ${asOfText(report)}`,
    categories: series.map(({ start }) => labelOf(start, interval)),
    series: [{ name: "Active", kind: "line", color: 0, values: series.map((row) => row.active) }],
  };
}

export function flowsChart(report: Head & PatientReport): Chart {
  const { series, totals, interval } = report;
  return {
    title: "Patients gained and lost",
    description: `Net change ${formatCount(totals.net)}, ${periodText(report)}: ${formatCount(totals.registered)} registered, ${formatCount(totals.restored + totals.unmerged)} came back, ${formatCount(totals.deleted)} deleted, ${formatCount(totals.merged)} merged into others. ${asOfText(report)}`,
    categories: series.map(({ start }) => labelOf(start, interval)),
    series: [
      { name: "Registered", kind: "bar", stack: "flows", color: 0, values: series.map((row) => row.registered) },
      { name: "Came back", kind: "bar", stack: "flows", color: 2, values: series.map((row) => row.restored + row.unmerged) },
      { name: "Deleted", kind: "bar", stack: "flows", color: 1, values: series.map((row) => -row.deleted) },
      { name: "Merged", kind: "bar", stack: "flows", color: 3, values: series.map((row) => -row.merged) },
    ],
  };
}

export const dimensionNames: Record<Dimension, string> = { sex: "sex", ageBand: "age", city: "city", state: "state" };
const maxBreakdownRows = 20;

export function breakdownChart(report: Head & { breakdown: Breakdown }): Chart {
  const { breakdown } = report;
  const rows = breakdown.rows.slice(0, maxBreakdownRows);
  const hidden = breakdown.hidden ? " Small counts are hidden." : "";
  return {
    title: `Patients by ${dimensionNames[breakdown.by]}`,
    description: `Registered from ${periodText(report)}, and active now.${hidden} ${asOfText(report)}`,
    categories: rows.map(({ value, registered, active }) => `${value || "not known"}${registered === null || active === null ? " *" : ""}`),
    series: [
      { name: "Active", kind: "bar", color: 0, values: rows.map((row) => row.active) },
      { name: "Registered", kind: "bar", color: 1, values: rows.map((row) => row.registered) },
    ],
    horizontal: true,
    height: 60 + rows.length * 34,
  };
}

/** Undefined if the breakdown is not by age. */
export function pyramidChart(report: Head & { breakdown: Breakdown }): Chart | undefined {
  const { rows, pyramid, hidden } = report.breakdown;
  if (!pyramid) return undefined;
  const bars = rows.map(({ value }, index) => ({ value, ...(pyramid[index] ?? { female: null, male: null, other: null }) })).reverse();
  const left = (value: number | null) => (value === null ? null : -value);
  return {
    title: "Active patients by age and sex",
    description: `An age pyramid: women to the left, men and others to the right.${hidden ? " Bars of small counts are hidden." : ""} ${asOfText(report)}`,
    categories: bars.map(({ value }) => value || "not known"),
    series: [
      { name: "Female", kind: "bar", stack: "pyramid", color: 3, values: bars.map((bar) => left(bar.female)) },
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
  const money = moneyText(report);
  const inMajor = (amount: bigint) => majorUnits(amount, currency);
  return {
    title: `Charged and collected per ${interval}, ${currency}`,
    description: `${money(totals.charged)} charged, ${money(totals.collected)} collected and ${money(totals.refunded)} refunded from ${periodText(report)}. ${asOfText(report)}`,
    categories: series.map(({ start }) => labelOf(start, interval)),
    series: [
      { name: "Charged", kind: "bar", color: 0, values: series.map((row) => inMajor(row.charged - row.voided)) },
      { name: "Collected", kind: "bar", color: 2, values: series.map((row) => inMajor(row.collected)) },
      { name: "Refunded", kind: "bar", color: 1, values: series.map((row) => inMajor(row.refunded)) },
    ],
  };
}

/** From the newest charges to the oldest: each colour is more urgent than the one before. */
const agingColors = [0, 2, 1, 3];

export function outstandingChart(report: Head & BillingReport): Chart {
  const { series, totals, currency, interval } = report;
  const money = moneyText(report);
  return {
    title: `Outstanding by age, ${currency}`,
    description: `${money(totals.outstandingAtEnd)} outstanding at the end, ${periodText(report)}; stacked by days since the charge. ${asOfText(report)}`,
    categories: series.map(({ start }) => labelOf(start, interval)),
    series: agingBuckets.map(({ label }, bucket) => ({
      name: `${label} days`,
      kind: "bar",
      stack: "open",
      color: agingColors[bucket] ?? 0,
      values: series.map((row) => majorUnits(row.aging[bucket] ?? 0n, currency)),
    })),
  };
}

export function agingChart(report: Head & BillingReport): Chart {
  const { aging, currency } = report;
  const money = moneyText(report);
  return {
    title: `Ageing at the end, ${currency}`,
    description: `${aging.map(({ bucket, amount }) => `${bucket} days: ${money(amount)}`).join("; ")}. ${asOfText(report)}`,
    categories: aging.map(({ bucket }) => `${bucket} days`),
    series: [{ name: "Open", kind: "bar", color: 0, values: aging.map(({ amount }) => majorUnits(amount, currency)) }],
  };
}

export function signInsChart(report: Head & ActivityReport): Chart {
  const { series, totals, interval } = report;
  return {
    title: `Sign-ins per ${interval}`,
    description: `${formatCount(totals.signedIn)} sign-ins and ${formatCount(totals.failed)} failed attempts from ${periodText(report)}. ${asOfText(report)}`,
    categories: series.map(({ start }) => labelOf(start, interval)),
    series: [
      { name: "Signed in", kind: "bar", stack: "all", color: 0, values: series.map((row) => row.signedIn) },
      { name: "Failed", kind: "bar", stack: "all", color: 1, values: series.map((row) => row.failed) },
    ],
  };
}

/** What the dashboard shows: numbers, charts with their tables, and breakdowns. */
import { html, raw } from "hono/html";
import { formatCount } from "../charts/labels.ts";
import type { Chart, Charts } from "../charts/renderer.ts";
import { agingBuckets } from "../measures.ts";
import { largestHidden, type Shown } from "../publications/suppression.ts";
import type { ActivityReport } from "../reports/activity.ts";
import { type BillingReport, netOf } from "../reports/billing.ts";
import type { Breakdown } from "../reports/breakdown.ts";
import {
  activePatientsChart,
  breakdownChart,
  countText,
  dimensionNames,
  moneyChart,
  moneyText,
  outstandingChart,
  pyramidChart,
  registrationsChart,
  signInsChart,
} from "../reports/charts.ts";
import type { PatientReport } from "../reports/patients.ts";
import type { Head } from "../reports/reports.ts";

export type Html = ReturnType<typeof html>;
type WithBreakdown = Head & { breakdown: Breakdown };

export type DashboardReports = {
  patients: Head & PatientReport;
  byAge: WithBreakdown;
  bySex: WithBreakdown;
  byCity: WithBreakdown;
  billing: Head & BillingReport;
  activity: Head & ActivityReport;
};

/** @param detail whether the reports have all numbers, or those of publications */
export async function content(reports: DashboardReports, detail: boolean, charts: Charts): Promise<Html> {
  const { patients, bySex, byCity, billing, activity } = reports;
  const figures = await Promise.all(
    figuresOf(reports, detail).map(async (each) => figure(each, await charts.draw({ ...each.chart, height: 260 }))),
  );
  const money = moneyText(billing.currency);
  return html`${emptyNote(reports, detail)}
<h2>Patients</h2>
<dl class="numbers">
${number("Active", countText(patients.totals.activeAtEnd), `${signed(patients.totals.net)} in the period`)}
${number("Registered", countText(patients.totals.registered), `${countText(patients.lastYear.registered)} a year before`)}
${number("Deleted", countText(patients.totals.deleted), `${countText(patients.totals.restored)} restored`)}
${number("Merged", countText(patients.totals.merged), `${countText(patients.totals.unmerged)} undone`)}
</dl>
<h2>Billing</h2>
<dl class="numbers">
${number("Charged", money(netOf(billing.totals)), `${money(netOf(billing.lastYear))} a year before`)}
${number("Collected", money(billing.totals.collected), `${money(billing.lastYear.collected)} a year before`)}
${number("Refunded", money(billing.totals.refunded), `${money(billing.lastYear.refunded)} a year before`)}
${
  detail
    ? number("Outstanding", money(billing.totals.outstandingAtEnd), `${money(billing.aging.at(-1)?.amount ?? null)} for more than 90 days`)
    : number("Invoiced", money(billing.totals.invoiced), `${money(billing.lastYear.invoiced)} a year before`)
}
</dl>
<h2>Activity</h2>
<dl class="numbers">
${number("Sign-ins", countText(activity.totals.signedIn), `${countText(activity.lastYear.signedIn)} a year before`)}
${number("Failed sign-ins", countText(activity.totals.failed), `${countText(activity.lastYear.failed)} a year before`)}
</dl>
<h2>Charts</h2>
<div class="charts">
${figures}
</div>
<h2 class="screen">Who they are</h2>
<div class="charts screen">${[bySex, byCity].map((each) => breakdownTable(each, detail))}</div>
${detail ? freshness(reports) : publicationNote(patients)}`;
}

function emptyNote({ patients, billing, activity }: DashboardReports, detail: boolean): Html | string {
  const hasNumbers = detail
    ? [patients, billing, activity].some(({ asOf }) => (asOf?.eventTime ?? null) !== null)
    : patients.publishedTo !== null;
  if (hasNumbers) return "";
  const text = detail
    ? "No events yet. As soon as a patient is registered, an account is charged or somebody signs in, the numbers appear here."
    : "Nothing is published yet. The numbers of a week appear here a day after it has ended.";
  return html`<p class="card" role="status">${text}</p>`;
}

/** How far the numbers go. */
function freshness({ patients, billing, activity }: DashboardReports): Html {
  const sources = [patients, billing, activity].map(({ asOf }) => asOf).filter((asOf) => asOf !== null);
  const times = sources
    .map(({ eventTime }) => eventTime)
    .filter((time) => time !== null)
    .sort();
  const offsets = sources.flatMap((asOf) => Object.entries(asOf.offsets));
  return html`<p class="note">As of ${times.at(-1) ?? "no event yet"}, the time of the latest event that is counted; days of ${patients.timeZone}.</p>
<details id="offsets"><summary>How far the events were read</summary><p class="note">${offsets.map(([place, offset]) => `${place}: ${offset}`).join(", ") || "Nothing was read yet."}</p></details>`;
}

function publicationNote({ publishedTo, timeZone }: Head): Html {
  return html`<p class="note">Whole weeks of ${timeZone}, published up to ${publishedTo ?? "no day yet"}. A week is published a day after it has ended, and does not change; what is corrected later is in a later week.</p>
<p class="note">“hidden” is a count of 1 to ${largestHidden}, an amount of ${largestHidden} accounts or fewer, a number from which one of these would follow, or a number of weeks that are not published. What is hidden is added to the number of a later week. Active patients by age, sex and place, and what is outstanding, need the scope analytics:detail.</p>`;
}

function number(name: string, value: string, beside: string): Html {
  return html`<div><dt>${name}</dt><dd>${value} <small>${beside}</small></dd></div>`;
}

/** A chart, and the table with the same numbers. */
type Figure = { id: string; chart: Chart; columns: string[]; rows: string[][] };

function figuresOf({ patients, byAge, billing, activity }: DashboardReports, detail: boolean): Figure[] {
  const money = moneyText(billing.currency);
  return [
    {
      id: "registrations",
      chart: registrationsChart(patients),
      columns: ["From", "Registered", "A year before"],
      rows: patients.series.map((row) => [row.start, countText(row.registered), countText(row.registeredLastYear)]),
    },
    {
      id: "active",
      chart: activePatientsChart(patients),
      columns: ["From", "Active", "Net"],
      rows: patients.series.map((row) => [row.start, countText(row.active), signed(row.net)]),
    },
    {
      id: "money",
      chart: moneyChart(billing),
      columns: ["From", "Charged", "Collected", "Refunded"],
      rows: billing.series.map((row) => [row.start, money(netOf(row)), money(row.collected), money(row.refunded)]),
    },
    ...(detail
      ? [
          {
            id: "outstanding",
            chart: outstandingChart(billing),
            columns: ["From", ...agingBuckets.map(({ label }) => `${label} days`)],
            rows: billing.series.map((row) => [row.start, ...row.aging.map(money)]),
          },
        ]
      : []),
    ageFigure(byAge),
    {
      id: "sign-ins",
      chart: signInsChart(activity),
      columns: ["From", "Signed in", "Failed"],
      rows: activity.series.map((row) => [row.start, countText(row.signedIn), countText(row.failed)]),
    },
  ];
}

function ageFigure(byAge: WithBreakdown): Figure {
  const { rows, pyramid } = byAge.breakdown;
  const pyramidOf = pyramidChart(byAge);
  const named = rows.map(({ value, registered }, index) => ({ name: value || "not known", registered, sexes: pyramid?.[index] }));
  if (!pyramidOf)
    return {
      id: "ages",
      chart: breakdownChart(byAge),
      columns: ["Age", "Registered"],
      rows: named.map(({ name, registered }) => [name, countText(registered)]),
    };
  return {
    id: "pyramid",
    chart: pyramidOf,
    columns: ["Age", "Female", "Male", "Other", "Registered"],
    rows: named.map(({ name, registered, sexes }) => [
      name,
      ...[sexes?.female ?? null, sexes?.male ?? null, sexes?.other ?? null, registered].map(countText),
    ]),
  };
}

function figure({ id, chart: { title }, columns, rows }: Figure, svg: string): Html {
  return html`<figure><figcaption>${title}</figcaption>
${raw(svg)}
<details id="table-${id}"><summary>Table: ${title}</summary><div class="scroll" tabindex="0" role="region" aria-label="Table: ${title}">${table(title, columns, rows)}</div></details></figure>`;
}

function table(caption: string, columns: string[], rows: string[][]): Html {
  return html`<table aria-label="${caption}"><thead><tr>${columns.map((column) => html`<th scope="col">${column}</th>`)}</tr></thead>
<tbody>${rows.map(([first = "", ...rest]) => html`<tr><th scope="row">${first}</th>${rest.map((cell) => html`<td>${cell}</td>`)}</tr>`)}</tbody></table>`;
}

const listedPlaces = 15;

function breakdownTable({ breakdown }: WithBreakdown, detail: boolean): Html {
  const name = dimensionNames[breakdown.by];
  const rows = breakdown.rows
    .slice(0, listedPlaces)
    .map(({ value, registered, active }) => [value || "not known", ...(detail ? [active, registered] : [registered]).map(countText)]);
  const columns = [name, ...(detail ? ["Active", "Registered"] : ["Registered"])];
  return html`<section class="card"><h3>By ${name}</h3>${rows.length === 0 ? html`<p class="note">There are no counts that may be shown.</p>` : table(`By ${name}`, columns, rows)}</section>`;
}

function signed(value: Shown): string {
  return value !== null && value > 0 ? `+${formatCount(value)}` : countText(value);
}

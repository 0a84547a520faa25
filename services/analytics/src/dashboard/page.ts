/** The HTML of the dashboard. The page is complete without its script, which only refreshes it. */

import { addDays } from "@pm/kit/calendar";
import { formatMoneyWithCode } from "@pm/kit/money";
import { html, raw } from "hono/html";
import { addYears, type Interval } from "../calendar.ts";
import { formatCount } from "../charts/labels.ts";
import type { Chart, Charts } from "../charts/renderer.ts";
import { agingBuckets } from "../measures.ts";
import type { ActivityReport } from "../reports/activity.ts";
import type { BillingReport } from "../reports/billing.ts";
import type { Breakdown } from "../reports/breakdown.ts";
import {
  activePatientsChart,
  dimensionNames,
  moneyChart,
  outstandingChart,
  pyramidChart,
  registrationsChart,
  signInsChart,
} from "../reports/charts.ts";
import type { PatientReport } from "../reports/patients.ts";
import type { Head } from "../reports/reports.ts";
import { largestHidden, type Shown } from "../reports/suppression.ts";

export const dashboardPath = "/analytics/dashboard";

/** What the page shows. `interval` differs from `requestedInterval` if the period is too long for that one. */
export type DashboardQuery = {
  from: string;
  to: string;
  interval: Interval;
  requestedInterval: Interval;
  timeZone: string;
  currency: string | undefined;
};

type Html = ReturnType<typeof html>;
type WithBreakdown = Head & { breakdown: Breakdown };

type DashboardReports = {
  patients: Head & PatientReport;
  byAge: WithBreakdown;
  bySex: WithBreakdown;
  byCity: WithBreakdown;
  billing: Head & BillingReport;
  activity: Head & ActivityReport;
};

/** Suggestions. The field takes every IANA name. */
const zones = [
  "UTC",
  "Europe/London",
  "Europe/Berlin",
  "Europe/Athens",
  "Africa/Lagos",
  "Asia/Kolkata",
  "Asia/Singapore",
  "Asia/Tokyo",
  "Australia/Sydney",
  "America/New_York",
  "America/Chicago",
  "America/Denver",
  "America/Los_Angeles",
  "America/Sao_Paulo",
];

function page(options: { title: string; release: string; body: Html; script?: boolean }): string {
  const { title, release, body, script = false } = options;
  return String(html`<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>${title}</title>
<link rel="icon" href="data:,">
<link rel="stylesheet" href="${dashboardPath}/dashboard.css?${release}">
${script ? html`<script src="${dashboardPath}/dashboard.js?${release}" defer></script>` : ""}
</head>
<body>
${body}
</body>
</html>
`);
}

export function signInPage(options: { release: string; next: string; email: string; problem?: string }): string {
  const { release, next, email, problem } = options;
  return page({
    title: problem ? "Not signed in: clinic dashboard" : "Sign in: clinic dashboard",
    release,
    body: html`<main>
<form class="sign-in card" method="post" action="${dashboardPath}/login">
<h1>Clinic dashboard</h1>
${problem ? html`<p class="problem" role="alert">${problem}</p>` : ""}
<label>E-mail address <input name="email" type="email" autocomplete="username" required maxlength="320" value="${email}"></label>
<label>Password <input name="password" type="password" autocomplete="current-password" required maxlength="1000"></label>
<label>Code, if you use an authenticator app <input name="code" inputmode="numeric" autocomplete="one-time-code" maxlength="40"></label>
<input type="hidden" name="next" value="${next}">
<button>Sign in</button>
</form>
</main>`,
  });
}

const signOut = html`<form method="post" action="${dashboardPath}/logout"><button class="plain">Sign out</button></form>`;

export function problemPage(options: { release: string; message: string; signedIn: boolean; requestId: string }): string {
  const { release, message, signedIn, requestId } = options;
  return page({
    title: "No numbers right now: clinic dashboard",
    release,
    body: html`<header><h1>Clinic dashboard</h1>${signedIn ? signOut : ""}</header>
<main class="card">
<p class="problem" role="alert">${message}</p>
<p><a href="${dashboardPath}">Try again</a></p>
<p class="note">Request ${requestId}</p>
</main>`,
  });
}

export async function dashboardPage(options: {
  release: string;
  tag: string;
  query: DashboardQuery;
  reports: DashboardReports;
  charts: Charts;
}): Promise<string> {
  const { release, tag, query, reports, charts } = options;
  const figures = await Promise.all(
    figuresOf(reports).map(async (each) => figure(each, await charts.draw({ ...each.chart, height: 260 }))),
  );
  return page({
    title: `Clinic dashboard, ${query.from} to ${query.to}`,
    release,
    script: true,
    body: html`<header>
<h1>Clinic dashboard</h1>
<p class="note">${query.from} to ${query.to}, ${query.timeZone}, by ${query.interval}</p>
${signOut}
</header>
<main>
${picker(query, reports.billing)}
<p class="note problem screen" id="status" role="status"></p>
<div id="live" data-tag="${tag}">
${content(query, reports, figures)}
</div>
</main>`,
  });
}

function picker(query: DashboardQuery, { currency, currencies, to }: Head & BillingReport): Html {
  const link = (text: string, from: string) => {
    const search = new URLSearchParams({ from, to, interval: "day", timeZone: query.timeZone });
    return html`<a href="${dashboardPath}?${search.toString()}">${text}</a>`;
  };
  const option = (value: string, chosen: string) => html`<option${value === chosen ? raw(" selected") : ""}>${value}</option>`;
  return html`<form class="picker" method="get" action="${dashboardPath}">
<label>From <input type="date" name="from" value="${query.from}" required></label>
<label>To <input type="date" name="to" value="${query.to}" required></label>
<label>By <select name="interval">${["day", "week", "month"].map((each) => option(each, query.requestedInterval))}</select></label>
<label>Time zone <input name="timeZone" value="${query.timeZone}" list="zones" maxlength="64" required></label>
<datalist id="zones">${zones.map((zone) => html`<option value="${zone}"></option>`)}</datalist>
${currencies.length > 1 ? html`<label>Currency <select name="currency">${currencies.map((each) => option(each, currency))}</select></label>` : ""}
<button>Show</button>
</form>
<p class="note screen">${link("Last 7 days", addDays(to, -6))} · ${link("Last 30 days", addDays(to, -29))} · ${link("Last 12 months", addDays(addYears(to, -1), 1))}
${query.requestedInterval === query.interval ? "" : html` · Shown by ${query.interval}: the period is too long for one bar a ${query.requestedInterval}.`}</p>`;
}

function content(query: DashboardQuery, reports: DashboardReports, figures: Html[]): Html {
  const { patients, byAge, bySex, byCity, billing, activity } = reports;
  const { currency } = billing;
  const money = (amount: bigint) => formatMoneyWithCode({ currencyCode: currency, minorUnits: amount });
  const hasEvents = [patients, billing, activity].some(({ asOf }) => asOf.eventTime !== null);
  const times = [patients, billing, activity]
    .map(({ asOf }) => asOf.eventTime)
    .filter((time) => time !== null)
    .sort();
  const offsets = Object.entries({ ...patients.asOf.offsets, ...billing.asOf.offsets, ...activity.asOf.offsets });
  const hidden = [byAge, bySex, byCity].some(({ breakdown }) => breakdown.hidden);
  return html`${hasEvents ? "" : html`<p class="card" role="status">No events yet. As soon as a patient is registered, an account is charged or somebody signs in, the numbers appear here.</p>`}
<h2>Patients</h2>
<dl class="numbers">
${number("Active", formatCount(patients.totals.activeAtEnd), `${signed(patients.totals.net)} in the period`)}
${number("Registered", formatCount(patients.totals.registered), `${formatCount(patients.lastYear.registered)} a year before`)}
${number("Deleted", formatCount(patients.totals.deleted), `${formatCount(patients.totals.restored)} restored`)}
${number("Merged", formatCount(patients.totals.merged), `${formatCount(patients.totals.unmerged)} undone`)}
</dl>
<h2>Billing</h2>
<dl class="numbers">
${number("Charged", money(billing.totals.charged - billing.totals.voided), `${money(billing.lastYear.charged - billing.lastYear.voided)} a year before`)}
${number("Collected", money(billing.totals.collected), `${money(billing.lastYear.collected)} a year before`)}
${number("Refunded", money(billing.totals.refunded), `${money(billing.lastYear.refunded)} a year before`)}
${number("Outstanding", money(billing.totals.outstandingAtEnd), `${money(billing.aging.at(-1)?.amount ?? 0n)} for more than 90 days`)}
</dl>
<h2>Activity</h2>
<dl class="numbers">
${number("Sign-ins", formatCount(activity.totals.signedIn), `${formatCount(activity.lastYear.signedIn)} a year before`)}
${number("Failed sign-ins", formatCount(activity.totals.failed), `${formatCount(activity.lastYear.failed)} a year before`)}
</dl>
<h2>Charts</h2>
<div class="charts">
${figures}
</div>
<h2 class="screen">Who they are</h2>
<div class="charts screen">${[bySex, byCity].map(breakdownTable)}</div>
${hidden ? html`<p class="note">Counts of 1 to ${largestHidden} are hidden, and so are counts from which one of these would follow.</p>` : ""}
<p class="note">As of ${times.at(-1) ?? "no event yet"}, the time of the latest event that is counted; days of ${query.timeZone}.</p>
<details id="offsets"><summary>How far the events were read</summary><p class="note">${offsets.map(([place, offset]) => `${place}: ${offset}`).join(", ") || "Nothing was read yet."}</p></details>`;
}

function number(name: string, value: string, beside: string): Html {
  return html`<div><dt>${name}</dt><dd>${value} <small>${beside}</small></dd></div>`;
}

/** A chart, and the table with the same numbers. */
type Figure = { id: string; chart: Chart; columns: string[]; rows: string[][] };

function figuresOf({ patients, byAge, billing, activity }: DashboardReports): Figure[] {
  const money = (amount: bigint) => formatMoneyWithCode({ currencyCode: billing.currency, minorUnits: amount });
  const pyramid = pyramidChart(byAge);
  return [
    {
      id: "registrations",
      chart: registrationsChart(patients),
      columns: ["From", "Registered", "A year before"],
      rows: patients.series.map((row) => [row.start, formatCount(row.registered), formatCount(row.registeredLastYear)]),
    },
    {
      id: "active",
      chart: activePatientsChart(patients),
      columns: ["From", "Active", "Net"],
      rows: patients.series.map((row) => [row.start, formatCount(row.active), signed(row.net)]),
    },
    {
      id: "money",
      chart: moneyChart(billing),
      columns: ["From", "Charged", "Collected", "Refunded"],
      rows: billing.series.map((row) => [row.start, money(row.charged - row.voided), money(row.collected), money(row.refunded)]),
    },
    {
      id: "outstanding",
      chart: outstandingChart(billing),
      columns: ["From", ...agingBuckets.map(({ label }) => `${label} days`)],
      rows: billing.series.map((row) => [row.start, ...row.aging.map(money)]),
    },
    ...(pyramid
      ? [{ id: "pyramid", chart: pyramid, columns: ["Age", "Female", "Male", "Other", "Registered"], rows: breakdownRows(byAge) }]
      : []),
    {
      id: "sign-ins",
      chart: signInsChart(activity),
      columns: ["From", "Signed in", "Failed"],
      rows: activity.series.map((row) => [row.start, formatCount(row.signedIn), formatCount(row.failed)]),
    },
  ];
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

const shown = (count: Shown | undefined) => (count === null || count === undefined ? "hidden" : formatCount(count));

function breakdownRows({ breakdown }: WithBreakdown): string[][] {
  const { rows, pyramid = [] } = breakdown;
  return rows.map(({ value, registered }, index) => {
    const sexes = pyramid[index];
    return [value || "not known", shown(sexes?.female), shown(sexes?.male), shown(sexes?.other), shown(registered)];
  });
}

const listedPlaces = 15;

function breakdownTable({ breakdown }: WithBreakdown): Html {
  const title = `By ${dimensionNames[breakdown.by]}`;
  const rows = breakdown.rows
    .slice(0, listedPlaces)
    .map(({ value, registered, active }) => [value || "not known", shown(active), shown(registered)]);
  return html`<section class="card"><h3>${title}</h3>${rows.length === 0 ? html`<p class="note">There are no counts that may be shown.</p>` : table(title, [dimensionNames[breakdown.by], "Active", "Registered"], rows)}</section>`;
}

function signed(value: number): string {
  return value > 0 ? `+${formatCount(value)}` : formatCount(value);
}

/** The HTML of the dashboard. The page is complete without its script, which only refreshes it. */

import { addDays } from "@pm/kit/calendar";
import { html, raw } from "hono/html";
import { addYears, type Interval } from "../calendar.ts";
import type { Charts } from "../charts/renderer.ts";
import { content, type DashboardReports, type Html } from "./content.ts";

export const dashboardPath = "/analytics/dashboard";

/** What the page shows. `interval` differs from `requestedInterval` if the period is too long for that one. */
export type DashboardQuery = {
  /** Whether the viewer sees all numbers. If not, they see weeks of the clinic's zone. */
  detail: boolean;
  from: string;
  to: string;
  interval: Interval;
  requestedInterval: Interval;
  timeZone: string;
  currency: string | undefined;
  /** Parameters of the address whose values cannot be used. */
  unused: string[];
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
${picker(query, reports)}
<p class="note problem screen" id="status" role="status"></p>
<div id="live" data-tag="${tag}">
${await content(reports, query.detail, charts)}
</div>
</main>`,
  });
}

function picker(query: DashboardQuery, { billing: { currency, currencies } }: DashboardReports): Html {
  const { detail, from, to, timeZone, requestedInterval } = query;
  const link = (text: string, first: string) => {
    const search = new URLSearchParams({ from: first, to, ...(detail && { interval: "day", timeZone }) });
    return html`<a href="${dashboardPath}?${search.toString()}">${text}</a>`;
  };
  const option = (value: string, chosen: string) => html`<option${value === chosen ? raw(" selected") : ""}>${value}</option>`;
  const links = detail
    ? [link("Last 7 days", addDays(to, -6)), link("Last 30 days", addDays(to, -29)), link("Last 12 months", addDays(addYears(to, -1), 1))]
    : [link("Last 4 weeks", addDays(to, -27)), link("Last 13 weeks", addDays(to, -90)), link("Last 52 weeks", addDays(to, -363))];
  return html`<form class="picker" method="get" action="${dashboardPath}">
<label>From <input type="date" name="from" value="${from}" required></label>
<label>To <input type="date" name="to" value="${to}" required></label>
${
  detail
    ? html`<label>By <select name="interval">${["day", "week", "month"].map((each) => option(each, requestedInterval))}</select></label>
<label>Time zone <input name="timeZone" value="${timeZone}" list="zones" maxlength="64" required></label>
<datalist id="zones">${zones.map((zone) => html`<option value="${zone}"></option>`)}</datalist>`
    : ""
}
${currencies.length > 1 ? html`<label>Currency <select name="currency">${currencies.map((each) => option(each, currency))}</select></label>` : ""}
<button>Show</button>
</form>
<p class="note screen">${links.map((each, index) => html`${index === 0 ? "" : " · "}${each}`)}
${requestedInterval === query.interval ? "" : html` · Shown by ${query.interval}: the period is too long for one bar a ${requestedInterval}.`}
${query.unused.length === 0 ? "" : html` · The page does not use these values of its address: ${query.unused.join(", ")}.`}</p>`;
}

import { existsSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { expect, test } from "vitest";
import { type Chart, standAlone } from "../src/charts/renderer.ts";
import { drawChart } from "../src/charts/worker.ts";
import {
  activePatientsChart,
  agingChart,
  breakdownChart,
  moneyChart,
  outstandingChart,
  pyramidChart,
  registrationsChart,
  signInsChart,
} from "../src/reports/charts.ts";

const head = {
  from: "2026-11-01",
  to: "2026-11-05",
  interval: "day" as const,
  timeZone: "Europe/Berlin",
  asOf: { eventTime: "2026-11-05T12:00:00.000Z", offsets: { "patient.v1/0": "42" } },
  publishedTo: null,
};
const days = [1, 2, 3, 4, 5].map((day) => `2026-11-0${day}`);
const flows = { registered: 60, deleted: 2, restored: 1, merged: 0, unmerged: 0, net: 59 };
const patients = {
  ...head,
  totals: { ...flows, activeAtStart: 100, activeAtEnd: 159 },
  lastYear: { from: "2025-11-01", to: "2025-11-05", ...flows, registered: 41 },
  series: days.map((start, index) => ({
    start,
    end: start,
    ...flows,
    registered: index * 6,
    active: 100 + index * 6,
    registeredLastYear: 12 - index * 2,
  })),
};
const money = {
  ...{ charged: 120_050n, voided: 1_000n, discounted: 500n, credited: 1_500n, writtenOff: 250n },
  ...{ collected: 80_000n, refunded: 2_500n, invoiced: 0n },
};
const billing = {
  ...head,
  currency: "EUR",
  currencies: ["EUR"],
  totals: { ...money, outstandingAtEnd: 39_050n, creditAtEnd: 0n, charges: 12, payments: 8 },
  lastYear: { from: "2025-11-01", to: "2025-11-05", ...money },
  aging: [20_000n, 10_000n, 5_000n, 4_050n].map((amount, index) => ({ bucket: ["0–30", "31–60", "61–90", "90+"][index] ?? "", amount })),
  series: days.map((start, index) => ({
    start,
    end: start,
    ...money,
    charged: 10_000n * BigInt(index + 1),
    outstanding: 35_000n,
    credit: 0n,
    aging: [20_000n, 10_000n - BigInt(index) * 500n, 5_000n, BigInt(index) * 800n],
  })),
};
const bands = ["0-9", "10-19", "20-29"].map((value) => ({ value, registered: 20, active: 40 }));
const breakdown = {
  by: "ageBand" as const,
  rows: bands,
  pyramid: [
    { female: 20, male: 20, other: 0 },
    { female: null, male: null, other: 0 },
    { female: 15, male: 25, other: 0 },
  ],
  hidden: true,
  truncated: false,
};
const activity = {
  ...head,
  totals: { signedIn: 30, failed: 4, sessionsEnded: 2, usersDisabled: 0 },
  lastYear: { from: "2025-11-01", to: "2025-11-05", signedIn: 0, failed: 0, sessionsEnded: 0, usersDisabled: 0 },
  failures: [],
  series: days.map((start, index) => ({ start, end: start, signedIn: 6, failed: index % 2, sessionsEnded: 0, usersDisabled: 0 })),
};
const charts: Record<string, Chart | undefined> = {
  registrations: registrationsChart(patients),
  active: activePatientsChart(patients),
  money: moneyChart(billing),
  outstanding: outstandingChart(billing),
  aging: agingChart(billing),
  pyramid: pyramidChart({ ...head, breakdown }),
  breakdown: breakdownChart({ ...head, breakdown }),
  "sign-ins": signInsChart(activity),
};

test.each(Object.entries(charts))("the chart %s is the one that was checked in (UPDATE=1 rewrites it)", (name, chart) => {
  const file = join(import.meta.dirname, "golden", `${name}.svg`);
  const svg = `${standAlone(drawChart(chart as Chart))}\n`;
  if (process.env.UPDATE || !existsSync(file)) {
    mkdirSync(join(import.meta.dirname, "golden"), { recursive: true });
    writeFileSync(file, svg);
  }
  expect(svg).toBe(readFileSync(file, "utf8"));
});

test("the same data gives the same bytes, however many charts were drawn before", () => {
  const first = drawChart(registrationsChart(patients));
  drawChart(moneyChart(billing));
  expect(drawChart(registrationsChart(patients))).toBe(first);
});

test("a chart has a title and a description, and nothing that a strict content security policy refuses", () => {
  const svg = drawChart(moneyChart(billing));
  expect(svg).toContain("<title id=");
  expect(svg).toContain("EUR 1,170.50 charged");
  expect(svg).not.toMatch(/<style|<script| style=| on\w+=|class=/);
});

test("what is hidden has no bar", () => {
  const pyramid = drawChart(pyramidChart({ ...head, breakdown }) as Chart);
  const bars = (svg: string) => svg.match(/fill="#(9c3f74|0072b2)"/g)?.length ?? 0;
  const shown = drawChart(
    pyramidChart({ ...head, breakdown: { ...breakdown, pyramid: bands.map(() => ({ female: 20, male: 20, other: 0 })) } }) as Chart,
  );
  expect(bars(shown) - bars(pyramid)).toBe(2);
});

test("text from outside cannot become markup", () => {
  const chart = registrationsChart(patients);
  expect(
    drawChart({
      ...chart,
      title: "<script>",
      categories: ["</text><script>"],
      series: chart.series.map((each) => ({ ...each, values: [1] })),
    }),
  ).not.toContain("<script>");
});

test("more bars than can be told apart are lines, and a year by day stays small", () => {
  const days = Array.from({ length: 365 }, (_, day) => ({
    ...billing.series[0],
    start: new Date(Date.UTC(2026, 0, 1 + day)).toISOString().slice(0, 10),
  }));
  for (const chart of [moneyChart, outstandingChart]) {
    const svg = drawChart(chart({ ...billing, series: days as typeof billing.series }));
    expect(svg.length).toBeLessThan(60_000);
    expect(svg.match(/<path/g)?.length).toBeLessThan(60);
  }
});

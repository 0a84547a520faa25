/**
 * Ingest, rebuild, and reports over the events of a million patients and five million events of billing.
 * `BENCH_PATIENTS` makes them fewer. `BENCH_DATA_DIR` keeps them for the next run.
 */
import type { Rows } from "./context.ts";
import { createRebuild, ingestRow } from "./ingest.ts";
import type { Row } from "./measure.ts";

export const rows: Rows = async (context) => {
  const { platform, baselines, http } = context;
  const base = platform.services.analytics.url;
  const rebuild = createRebuild(context);
  let cookie = "";

  async function signIn(): Promise<void> {
    const response = await fetch(`${base}/analytics/dashboard/login`, {
      method: "POST",
      headers: { origin: base },
      body: new URLSearchParams(platform.admin),
      redirect: "manual",
    });
    cookie = response.headers.get("set-cookie")?.split(";")[0] ?? "";
    if (response.status !== 303) throw new Error(`signing in to the dashboard answered ${response.status}`);
  }

  // Every request asks for another period, so that no answer comes from the cache.
  const today = Date.now();
  const day = (ago: number) => new Date(today - ago * 86_400_000).toISOString().slice(0, 10);
  const month = (n: number) => `from=${day((n % 600) + 30 + Math.floor(n / 600))}&to=${day(n % 600)}`;
  const year = (n: number) => `from=${day((n % 300) + 364 - Math.floor(n / 300))}&to=${day(n % 300)}`;
  const report = (name: string, query: (n: number) => string): Row => ({
    name: `analytics: ${name}`,
    concurrency: 2,
    prepare: rebuild.fill,
    request: (_, n) => http(base, "GET", `/analytics/${query(n)}`),
    baseline: baselines.query,
    aims: { maxP99: 6 },
  });
  const dashboard: Row = {
    ...report("dashboard", () => ""),
    aims: { maxP99: 22 },
    async prepare() {
      await rebuild.fill();
      await signIn();
    },
    async request(_, n) {
      const response = await fetch(`${base}/analytics/dashboard?${month(n)}&timeZone=Europe/Berlin`, { headers: { cookie } });
      if (response.status !== 200) throw new Error(`the dashboard answered ${response.status}`);
      return response.text();
    },
  };
  return [
    ingestRow(context),
    rebuild.row,
    report("patients, 30 days by day, Berlin", (n) => `patients?${month(n)}&timeZone=Europe/Berlin`),
    report("patients, a year by week, Kolkata", (n) => `patients?${year(n)}&interval=week&timeZone=Asia/Kolkata`),
    report("patients, a year by city, Berlin", (n) => `patients?${year(n)}&interval=month&by=city&timeZone=Europe/Berlin`),
    report("patients, age pyramid", (n) => `patients?${year(n)}&interval=month&by=ageBand`),
    report("billing, 30 days by day, Berlin", (n) => `billing?${month(n)}&timeZone=Europe/Berlin`),
    report("billing, a year by month", (n) => `billing?${year(n)}&interval=month`),
    report("patients, a year by day, New York", (n) => `patients?${year(n)}&timeZone=America/New_York`),
    report("billing, a year by day, Kolkata", (n) => `billing?${year(n)}&timeZone=Asia/Kolkata`),
    report("billing, a year by day, Kolkata, chart", (n) => `billing?${year(n)}&timeZone=Asia/Kolkata&format=svg`),
    report("summary, 30 days, Berlin", (n) => `summary?${month(n)}&timeZone=Europe/Berlin`),
    dashboard,
  ];
};

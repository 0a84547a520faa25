import { createRoute, z } from "@hono/zod-openapi";
import { AppError } from "@pm/kit/errors";
import { toExactJson } from "@pm/kit/exact-json";
import { matchesIfNoneMatch, type RestApp, type RestContext } from "@pm/kit/http/rest";
import { type Chart, type Charts, standAlone } from "../charts/renderer.ts";
import { dimensions } from "../rollups/types.ts";
import {
  activePatientsChart,
  agingChart,
  breakdownChart,
  flowsChart,
  moneyChart,
  outstandingChart,
  pyramidChart,
  registrationsChart,
  signInsChart,
} from "./charts.ts";
import { activityCsv, billingCsv, breakdownCsv, type Format, formats, mediaTypes, negotiate, patientsCsv, summaryCsv } from "./csv.ts";
import { periodQuery } from "./period.ts";
import type { AsOf, Head, Plan, Reports } from "./reports.ts";
import { ActivityReportSchema, BillingReportSchema, PatientReportSchema, SummarySchema } from "./schemas.ts";

const currency = z
  .string()
  .regex(/^[A-Z]{3}$/, "must be an ISO 4217 code, such as EUR")
  .optional()
  .openapi({ description: "The one with the most charges where not given." });
const formatOf = (offered: readonly Format[]) =>
  z
    .enum(offered as [Format, ...Format[]])
    .optional()
    .openapi({ description: "Instead of `Accept`." });
const text = { schema: z.string() };
const responses = (schema: z.ZodType, offered: readonly Format[]) => ({
  200: {
    description: "The report",
    content: {
      "application/json": { schema },
      ...(offered.includes("csv") && { "text/csv": text }),
      ...(offered.includes("svg") && { "image/svg+xml": text }),
    },
  },
  304: { description: "The report is what it was for the ETag in If-None-Match" },
});

const reportPatients = createRoute({
  operationId: "reportPatients",
  method: "get",
  path: "/analytics/patients",
  tags: ["Reports"],
  summary: "Registrations per day, week or month, what became of them, and who they are",
  request: {
    query: z.strictObject({
      ...periodQuery,
      by: z.enum(dimensions).optional().openapi({ description: "Breaks registrations of the period and active patients down." }),
      chart: z.enum(["registrations", "active", "flows"]).default("registrations").openapi({ description: "With SVG and without `by`." }),
      format: formatOf(formats),
    }),
  },
  responses: responses(PatientReportSchema, formats),
});
const reportBilling = createRoute({
  operationId: "reportBilling",
  method: "get",
  path: "/analytics/billing",
  tags: ["Reports"],
  summary: "Charged, collected, refunded, outstanding and for how long",
  request: {
    query: z.strictObject({
      ...periodQuery,
      currency,
      chart: z.enum(["money", "outstanding", "aging"]).default("money").openapi({ description: "With SVG." }),
      format: formatOf(formats),
    }),
  },
  responses: responses(BillingReportSchema, formats),
});
const reportActivity = createRoute({
  operationId: "reportActivity",
  method: "get",
  path: "/analytics/activity",
  tags: ["Reports"],
  summary: "Sign-ins and failed attempts",
  request: { query: z.strictObject({ ...periodQuery, format: formatOf(formats) }) },
  responses: responses(ActivityReportSchema, formats),
});
const withoutCharts = ["json", "csv"] as const;
const summarize = createRoute({
  operationId: "summarize",
  method: "get",
  path: "/analytics/summary",
  tags: ["Reports"],
  summary: "The numbers of a period, each beside the same days a year before",
  request: { query: z.strictObject({ ...periodQuery, currency, format: formatOf(withoutCharts) }) },
  responses: responses(SummarySchema, withoutCharts),
});

/** Reports, each as JSON, CSV or a chart. */
export function registerReports({ operation }: RestApp, { reports, charts }: { reports: Reports; charts: Charts }): void {
  operation(reportPatients, async (c) => {
    const { format, chart, ...query } = c.req.valid("query");
    const plan = await reports.patients(query, c.get("caller").scopes.has("analytics:detail"));
    return answer(c, { reports, charts }, plan, formats, format, [chart], {
      csv: (report) => (report.breakdown ? breakdownCsv(report.breakdown) : patientsCsv(report)),
      svg: (report) => {
        const { breakdown } = report;
        if (breakdown) return pyramidChart({ ...report, breakdown }) ?? breakdownChart({ ...report, breakdown });
        return chart === "active" ? activePatientsChart(report) : chart === "flows" ? flowsChart(report) : registrationsChart(report);
      },
    });
  });
  operation(reportBilling, async (c) => {
    const { format, chart, ...query } = c.req.valid("query");
    const draw = { money: moneyChart, outstanding: outstandingChart, aging: agingChart }[chart];
    return answer(c, { reports, charts }, await reports.billing(query), formats, format, [chart], { csv: billingCsv, svg: draw });
  });
  operation(reportActivity, async (c) => {
    const { format, ...query } = c.req.valid("query");
    const plan = await reports.activity(query, c.get("caller").scopes.has("analytics:detail"));
    return answer(c, { reports, charts }, plan, formats, format, [], { csv: activityCsv, svg: signInsChart });
  });
  operation(summarize, async (c) => {
    const { format, ...query } = c.req.valid("query");
    return answer(c, { reports, charts }, await reports.summary(query), withoutCharts, format, [], { csv: summaryCsv });
  });
}

const contentTypes: Record<Format, string> = { ...mediaTypes, csv: `${mediaTypes.csv}; charset=utf-8` };

/** Answers in the wanted form, or 304 where the caller has it already: that is known before anything is added up. */
async function answer<T>(
  c: RestContext,
  { reports, charts }: { reports: Reports; charts: Charts },
  plan: Plan<T>,
  offered: readonly Format[],
  wanted: Format | undefined,
  variant: string[],
  ways: { csv: (report: Head & T) => string; svg?: (report: Head & T) => Chart },
): Promise<Response> {
  const format = negotiate(offered, wanted, c.req.header("accept"));
  const etag = `W/"${[plan.tag, format, ...variant].join("-")}"`;
  const headers = { etag, vary: "Accept, Authorization", "cache-control": "private, no-cache", "x-as-of": asOfHeader(plan.asOf) };
  if (matchesIfNoneMatch(c.req.header("if-none-match"), etag)) return c.body(null, 304, headers);
  const text = await reports.text(etag, async () => {
    const report = await plan.make();
    if (format === "json") return toExactJson(report);
    if (format === "csv") return ways.csv(report);
    if (!ways.svg) throw new AppError("not_acceptable", "This report has no chart.");
    return standAlone(await charts.draw(ways.svg(report)));
  });
  return c.body(text, 200, { ...headers, "content-type": contentTypes[format] });
}

/** The event time, and how far each partition was read: `2026-11-21T16:00:00.000Z; patient.v1/0=1204, patient.v1/1=1180`. */
function asOfHeader({ eventTime, offsets }: AsOf): string {
  const places = Object.entries(offsets).map(([partition, offset]) => `${partition}=${offset}`);
  return `${eventTime ?? "never"}; ${places.join(", ")}`;
}

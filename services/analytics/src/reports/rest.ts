/** The reports over REST, each as JSON, as CSV or as a chart. */
import { createRoute, z } from "@hono/zod-openapi";
import type { AuditTrail } from "@pm/kit/audit/trail";
import { AppError } from "@pm/kit/errors";
import { toExactJson } from "@pm/kit/exact-json";
import { preferredType } from "@pm/kit/http/accept";
import { matchesIfNoneMatch } from "@pm/kit/http/etag";
import { type RestApp, type RestContext, requestContext } from "@pm/kit/http/rest";
import { errorAnswers } from "@pm/kit/http/schemas";
import { type Chart, type Charts, standAlone } from "../charts/renderer.ts";
import { dimensions } from "../measures.ts";
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
import { activityCsv, billingCsv, breakdownCsv, patientsCsv, summaryCsv } from "./csv.ts";
import { periodQuery } from "./period.ts";
import type { Head, Plan, Reports, Source } from "./reports.ts";
import {
  ActivityReportSchema,
  activityCsvExample,
  BillingReportSchema,
  billingCsvExample,
  chartExample,
  PatientReportSchema,
  patientsCsvExample,
  SummarySchema,
  summaryCsvExample,
} from "./schemas.ts";

const mediaTypes = { json: "application/json", csv: "text/csv", svg: "image/svg+xml" } as const;
type Format = keyof typeof mediaTypes;
const contentTypes: Record<Format, string> = { ...mediaTypes, csv: `${mediaTypes.csv}; charset=utf-8` };

const withChart = ["json", "csv", "svg"] as const;
const withoutChart = ["json", "csv"] as const;
type Formats = typeof withChart | typeof withoutChart;

const tags = ["Reports"];
const formatQuery = <Offered extends Formats>(offered: Offered) =>
  z.enum(offered).optional().openapi({ description: "The format. By default, the header `Accept` decides.", example: "json" });
const currency = z
  .string()
  .regex(/^[A-Z]{3}$/, "must be an ISO 4217 code, such as EUR")
  .optional()
  .openapi({ description: "By default the currency with the most charges.", example: "EUR" });
const text = (example: string) => ({ schema: z.string(), example });

function answers(schema: z.ZodType, csvExample: string, offered: Formats) {
  return {
    200: {
      description: "The report",
      content: {
        "application/json": { schema },
        "text/csv": text(csvExample),
        ...(offered === withChart && { "image/svg+xml": text(chartExample) }),
      },
    },
    304: { description: "The report has not changed since the ETag in If-None-Match" },
    ...errorAnswers("not_acceptable"),
  };
}

const withoutDetail =
  "Without the scope analytics:detail, the numbers are those of published weeks: whole weeks of the clinic's days, made once, a day after the week has ended. Small numbers are null, and are in the number of a later week.";

const reportPatients = createRoute({
  operationId: "reportPatients",
  method: "get",
  path: "/analytics/patients",
  tags,
  summary: "Report registrations and active patients",
  description: `Per day, week or month. With \`by\` also by sex, age, city or state. ${withoutDetail}`,
  request: {
    query: z.strictObject({
      ...periodQuery,
      by: z
        .enum(dimensions)
        .optional()
        .openapi({ description: "Breaks down the registrations of the period and the active patients.", example: "ageBand" }),
      chart: z
        .enum(["registrations", "active", "flows"])
        .default("registrations")
        .openapi({ description: "Which chart, if the format is SVG and `by` is not given." }),
      format: formatQuery(withChart),
    }),
  },
  responses: answers(PatientReportSchema, patientsCsvExample, withChart),
});
const reportBilling = createRoute({
  operationId: "reportBilling",
  method: "get",
  path: "/analytics/billing",
  tags,
  summary: "Report charges, payments and what is outstanding",
  description: `Per day, week or month, in one currency. What is outstanding is also given by the age of the charges. ${withoutDetail}`,
  request: {
    query: z.strictObject({
      ...periodQuery,
      currency,
      chart: z.enum(["money", "outstanding", "aging"]).default("money").openapi({ description: "Which chart, if the format is SVG." }),
      format: formatQuery(withChart),
    }),
  },
  responses: answers(BillingReportSchema, billingCsvExample, withChart),
});
const reportActivity = createRoute({
  operationId: "reportActivity",
  method: "get",
  path: "/analytics/activity",
  tags,
  summary: "Report sign-ins and failed attempts",
  description: withoutDetail,
  request: { query: z.strictObject({ ...periodQuery, format: formatQuery(withChart) }) },
  responses: answers(ActivityReportSchema, activityCsvExample, withChart),
});
const summarize = createRoute({
  operationId: "summarize",
  method: "get",
  path: "/analytics/summary",
  tags,
  summary: "Summarize a period",
  description: `Each number with the one of the same days a year before. ${withoutDetail}`,
  request: { query: z.strictObject({ ...periodQuery, currency, format: formatQuery(withoutChart) }) },
  responses: answers(SummarySchema, summaryCsvExample, withoutChart),
});

export function registerReports({ operation }: RestApp, parts: Parts): void {
  const { reports } = parts;
  operation(reportPatients, async (c) => {
    const { format, chart, ...query } = c.req.valid("query");
    const plan = await reports.patients(query, seesDetail(c));
    return answer(c, parts, plan, {
      offered: withChart,
      format,
      variant: chart,
      csv: (report) => (report.breakdown ? breakdownCsv(report.breakdown) : patientsCsv(report)),
      svg: (report) => {
        const { breakdown } = report;
        if (breakdown) return pyramidChart({ ...report, breakdown }) ?? breakdownChart({ ...report, breakdown });
        return { registrations: registrationsChart, active: activePatientsChart, flows: flowsChart }[chart](report);
      },
    });
  });
  operation(reportBilling, async (c) => {
    const { format, chart, ...query } = c.req.valid("query");
    const svg = { money: moneyChart, outstanding: outstandingChart, aging: agingChart }[chart];
    return answer(c, parts, await reports.billing(query, seesDetail(c)), {
      offered: withChart,
      format,
      variant: chart,
      csv: billingCsv,
      svg,
    });
  });
  operation(reportActivity, async (c) => {
    const { format, ...query } = c.req.valid("query");
    const plan = await reports.activity(query, seesDetail(c));
    return answer(c, parts, plan, { offered: withChart, format, csv: activityCsv, svg: signInsChart });
  });
  operation(summarize, async (c) => {
    const { format, ...query } = c.req.valid("query");
    return answer(c, parts, await reports.summary(query, seesDetail(c)), { offered: withoutChart, format, csv: summaryCsv });
  });
}

type Parts = { reports: Reports; charts: Charts; audit: AuditTrail };

const seesDetail = (c: RestContext): boolean => c.get("caller").scopes.has("analytics:detail");

type Presentation<Report> = {
  offered: Formats;
  /** The format that the query names. */
  format: Format | undefined;
  /** What else the text depends on. */
  variant?: string;
  csv: (report: Report) => string;
  svg?: (report: Report) => Chart;
};

/**
 * Answers in the requested format, or 304 if the caller has this version: that is decided before anything is added up.
 */
async function answer<Report>(
  c: RestContext,
  { reports, charts, audit }: Parts,
  plan: Plan<Report>,
  { offered, format = formatFrom(c, offered), variant, csv, svg }: Presentation<Head & Report>,
): Promise<Response> {
  const etag = `W/"${[plan.tag, format, ...(variant ? [variant] : [])].join("-")}"`;
  const headers = { etag, vary: "Accept, Authorization", "cache-control": "private, no-cache", "x-as-of": asOfHeader(plan.source) };
  if (matchesIfNoneMatch(c.req.header("if-none-match"), etag)) return c.body(null, 304, headers);
  // Small counts may tell about single people.
  if (seesDetail(c)) {
    const { operation } = c.var;
    await audit.record({ ...requestContext(c), action: "report.read", subject: operation, details: c.req.query() });
  }
  const body = await reports.text(etag, async () => {
    const report = await plan.make();
    if (format === "svg" && svg) return standAlone(await charts.draw(svg(report)));
    return format === "csv" ? csv(report) : toExactJson(report);
  });
  return c.body(body, 200, { ...headers, "content-type": contentTypes[format] });
}

/** @throws AppError not_acceptable if the caller takes none of the formats */
function formatFrom(c: RestContext, offered: Formats): Format {
  const preferred = preferredType(c, [mediaTypes.json, ...offered.slice(1).map((format) => mediaTypes[format])]);
  const format = offered.find((each) => mediaTypes[each] === preferred);
  if (format) return format;
  const choice = offered.map((each) => `${mediaTypes[each]} (?format=${each})`).join(", ");
  throw new AppError("not_acceptable", `This report is available as ${choice}.`);
}

/**
 * The event time, and how far each partition was read: `2026-11-21T16:00:00.000Z; patient.v1/0=1204,
 * patient.v1/1=1180`. Without analytics:detail, the last day that is published.
 */
function asOfHeader({ asOf, publishedTo }: Source): string {
  if (asOf === null) return publishedTo ?? "never";
  const places = Object.entries(asOf.offsets).map(([partition, offset]) => `${partition}=${offset}`);
  return `${asOf.eventTime ?? "never"}; ${places.join(", ")}`;
}

import { createRoute, z } from "@hono/zod-openapi";
import type { Verifier } from "@pm/kit/auth";
import type { Lifetime } from "@pm/kit/lifetime";
import type { Logger } from "@pm/kit/log";
import { createRestApp, type RestApp } from "@pm/kit/rest";
import { periodQuery } from "./period.ts";
import type { Reports } from "./reports.ts";

const count = z.int();
const flows = { registered: count, deleted: count, restored: count, merged: count, unmerged: count, net: count };
const head = {
  from: z.string(),
  to: z.string(),
  interval: z.string(),
  timeZone: z.string(),
  asOf: z.object({ eventTime: z.string().nullable(), offsets: z.record(z.string(), z.string()) }),
};
const PatientReportSchema = z
  .object({
    ...head,
    totals: z.object({ ...flows, activeAtStart: count, activeAtEnd: count }),
    lastYear: z.object({ from: z.string(), to: z.string(), ...flows }),
    series: z.array(z.object({ start: z.string(), end: z.string(), ...flows, active: count, registeredLastYear: count })),
  })
  .openapi("PatientReport");

const reportPatients = createRoute({
  operationId: "reportPatients",
  method: "get",
  path: "/analytics/patients",
  tags: ["Reports"],
  summary: "Registrations per day, week or month, and what became of them",
  request: { query: z.object(periodQuery).strict() },
  responses: { 200: { description: "The report", content: { "application/json": { schema: PatientReportSchema } } } },
});

export function createRest(options: { reports: Reports; log: Logger; lifetime: Lifetime; verifier: Verifier }): RestApp {
  const { reports, log, lifetime, verifier } = options;
  const rest = createRestApp({
    service: "analytics",
    title: "Analytics",
    description: "Numbers about patients, billing and sign-ins, counted from every event of the platform.",
    log,
    lifetime,
    verifier,
  });
  rest.operation(reportPatients, async (c) => c.json(await reports.patients(c.req.valid("query")), 200));
  return rest;
}

import { type Dashboard, here, type Panel, quantile, rate } from "./dashboard.ts";
import { checkPanels, connectionPanels, consumerPanels, eventPanels, processPanels, requestPanels } from "./shared.ts";

const rest = "http_server_request_duration_seconds";
const rpc = "rpc_server_call_duration_seconds";

function operationPanels(what: string, where: string, metric: string, operation: string, status: string): Panel[] {
  const slowest = `histogram_quantile(0.99, sum by (${operation}, le) (${rate(`${metric}_bucket{${where}}`)}))`;
  return [
    {
      title: `Busiest ${what}`,
      unit: "reqps",
      queries: [{ expr: `topk(10, sum by (${operation}) (${rate(`${metric}_count{${where}}`)}))`, legend: `{{${operation}}}` }],
    },
    { title: `Slowest ${what}, 99th percentile`, unit: "s", queries: [{ expr: `topk(10, ${slowest})`, legend: `{{${operation}}}` }] },
    {
      title: `Answers to ${what}, by status`,
      unit: "reqps",
      queries: [{ expr: `sum by (${status}) (${rate(`${metric}_count{${where}}`)})`, legend: `{{${status}}}` }],
    },
  ];
}

const restPanels = (where: string) => operationPanels("operations", where, rest, "operation", "http_response_status_code");
const rpcPanels = (where: string) => operationPanels("calls", where, rpc, "rpc_method", "rpc_response_status_code");

const saturationPanels = (where: string): Panel[] => [
  ...connectionPanels(where),
  {
    title: "Items that wait for a batch",
    unit: "short",
    queries: [{ expr: `sum by (batch) (batch_waiting{${where}})`, legend: "{{batch}}" }],
  },
];

const threadPanels = (where: string): Panel[] => [
  {
    title: "Threads",
    unit: "short",
    queries: [
      { expr: `sum by (pool) (thread_pool_busy{${where}})`, legend: "{{pool}}, busy" },
      { expr: `sum by (pool) (thread_pool_size{${where}})`, legend: "{{pool}}, at most" },
    ],
  },
  {
    title: "Tasks that wait for a thread",
    unit: "short",
    queries: [{ expr: `sum by (pool) (thread_pool_waiting{${where}})`, legend: "{{pool}}" }],
  },
];

const gauge = (title: string, expr: string, legend: string, description = ""): Panel => ({
  ...{ title, description, unit: "short" },
  queries: [{ expr, legend }],
});

function serviceDashboard(service: string, own: (where: string) => Dashboard["rows"]): Dashboard {
  const where = `${here},service="${service}"`;
  return {
    uid: `pm-${service}`,
    title: `Patient management: ${service}`,
    rows: [
      { title: "Requests", panels: requestPanels(where) },
      ...own(where),
      { title: "Saturation", panels: saturationPanels(where) },
      { title: "Outbox", panels: eventPanels(where) },
      { title: "Process", panels: processPanels(where) },
      { title: "Checks", panels: checkPanels(where) },
    ],
  };
}

/** It has no database: it asks the other services as its caller. */
const fhir: Dashboard = {
  uid: "pm-fhir",
  title: "Patient management: fhir",
  rows: [
    { title: "Requests", panels: requestPanels(`${here},service="fhir"`) },
    { title: "Operations", panels: restPanels(`${here},service="fhir"`) },
    {
      title: "The services that it asks",
      panels: [
        {
          title: "Time to answer of patient, analytics and auth, 99th percentile",
          description: "Measured for all their callers; FHIR waits for these answers.",
          unit: "s",
          queries: [{ expr: quantile(0.99, "service", rest, `${here},service=~"patient|analytics|auth"`), legend: "{{service}}" }],
        },
        {
          title: "Time to answer of billing, 99th percentile",
          description: "Of all its callers, by call.",
          unit: "s",
          queries: [{ expr: quantile(0.99, "rpc_method", rpc, `${here},service="billing"`), legend: "{{rpc_method}}" }],
        },
      ],
    },
    { title: "Process", panels: processPanels(`${here},service="fhir"`) },
  ],
};

export const services: Dashboard[] = [
  fhir,
  serviceDashboard("patient", (where) => [
    { title: "Operations", panels: restPanels(where) },
    {
      title: "Accounts and erasures",
      panels: [
        gauge(
          "Calls to billing stopped",
          `max by (target) (circuit_breaker_open{${where}})`,
          "{{target}}",
          "Alert CircuitBreakerOpen at 1.",
        ),
        gauge(
          "Seconds that the oldest erasure has waited for a service",
          `max by (service) (erasures_waiting_seconds{${where}})`,
          "seconds",
          "Alert ErasuresWaiting above an hour.",
        ),
        gauge("Patients whose search words are to be rewritten", `max by (service) (patients_with_old_words{${where}})`, "patients"),
      ],
    },
  ]),
  serviceDashboard("billing", (where) => [
    { title: "Calls", panels: rpcPanels(where) },
    { title: "Pages and PDFs", panels: restPanels(where) },
    {
      title: "Threads, and patients without accounts",
      panels: [
        ...threadPanels(where),
        gauge(
          "Found by the last reconciliation",
          `max by (kind) (reconciliation_findings{${where}})`,
          "{{kind}}",
          "Alert ReconciliationFindings at one.",
        ),
      ],
    },
  ]),
  serviceDashboard("auth", (where) => [
    { title: "Operations", panels: restPanels(where) },
    { title: "Passwords", panels: threadPanels(where) },
  ]),
  serviceDashboard("analytics", (where) => [
    { title: "Operations", panels: restPanels(where) },
    { title: "Events", panels: consumerPanels(where) },
    {
      title: "Charts, and numbers that differ",
      panels: [
        ...threadPanels(where),
        gauge(
          "Numbers that differ from those of other services",
          `max by (kind) (reconciliation_findings{${where}})`,
          "{{kind}}",
          "By the last comparison. Alert ReconciliationFindings at one.",
        ),
      ],
    },
  ]),
];

/**
 * Panels that several dashboards show. `where` selects the series, such as `namespace=~"$namespace",service="patient"`.
 */
import { type Panel, quantile, rate } from "./dashboard.ts";

const errorOfHttp = `http_response_status_code=~"5.."`;
const errorOfRpc = `rpc_response_status_code=~"(?i)internal|unavailable|unknown|data_loss"`;
/** Rates of REST and of RPC. Each has labels of its own, so the two never meet. */
const requests = (part: string, where: string, http = "", rpc = "") =>
  `${rate(`http_server_request_duration_seconds_${part}{${where}${http}}`)} or ${rate(`rpc_server_call_duration_seconds_${part}{${where}${rpc}}`)}`;
const requestQuantile = (share: number, where: string) =>
  `histogram_quantile(${share}, sum by (service, le) (${requests("bucket", where)}))`;
const all = (where: string) => `sum by (service) (${requests("count", where)})`;

export const requestPanels = (where: string): Panel[] => [
  { title: "Requests by service", unit: "reqps", queries: [{ expr: all(where), legend: "{{service}}" }] },
  {
    title: "Errors of ours, share",
    description: "Alert RequestErrors at 2 %.",
    unit: "percentunit",
    queries: [
      {
        expr: `(sum by (service) (${requests("count", where, `,${errorOfHttp}`, `,${errorOfRpc}`)}) or 0 * ${all(where)}) / ${all(where)}`,
        legend: "{{service}}",
      },
    ],
  },
  {
    title: "Time to answer",
    description: "Alert RequestsSlow at one second, log-in, import and export left out.",
    unit: "s",
    queries: [
      { expr: requestQuantile(0.5, where), legend: "{{service}}, median" },
      { expr: requestQuantile(0.99, where), legend: "{{service}}, 99th percentile" },
    ],
  },
];

export const eventPanels = (where: string): Panel[] => [
  {
    title: "Events waiting to be published",
    description: "Alert OutboxStuck at 500.",
    unit: "short",
    queries: [{ expr: `max by (service) (outbox_pending{${where}})`, legend: "{{service}}" }],
  },
  {
    title: "Age of the oldest event that waits",
    unit: "s",
    queries: [{ expr: `max by (service) (outbox_oldest_seconds{${where}})`, legend: "{{service}}" }],
  },
  {
    title: "From commit to Kafka, 99th percentile",
    unit: "s",
    queries: [{ expr: quantile(0.99, "service", "outbox_lag_seconds", where), legend: "{{service}}" }],
  },
];

export const consumerPanels = (where: string): Panel[] => [
  {
    title: "Events not yet applied",
    description: "Alert ConsumerLag at 1,000.",
    unit: "short",
    queries: [
      { expr: `sum by (group, topic) (max by (group, topic, partition) (consumer_lag_events{${where}}))`, legend: "{{group}} {{topic}}" },
    ],
  },
  {
    title: "Age of the first event not yet applied",
    description: "Alert FreshnessBudgetBurning counts the time above 60 s.",
    unit: "s",
    queries: [{ expr: `max by (group, topic) (consumer_lag_seconds{${where}})`, legend: "{{group}} {{topic}}" }],
  },
  {
    title: "Dead letters waiting",
    description: "Alert DeadLettersWaiting at one.",
    unit: "short",
    queries: [{ expr: `max by (group) (consumer_dead_letters_waiting{${where}})`, legend: "{{group}}" }],
  },
];

export const connectionPanels = (where: string): Panel[] => [
  {
    title: "Connections to Postgres",
    description: "In use, beside the size of the pool.",
    unit: "short",
    queries: [
      {
        expr: `sum by (service) (db_client_connection_count{${where},db_client_connection_state="used"})`,
        legend: "{{service}}, used",
      },
      { expr: `sum by (service) (db_client_connection_max{${where}})`, legend: "{{service}}, at most" },
    ],
  },
  {
    title: "Statements that wait for a connection",
    unit: "short",
    queries: [{ expr: `sum by (service) (db_client_connection_pending_requests{${where}})`, legend: "{{service}}" }],
  },
];

export const processPanels = (where: string): Panel[] => [
  {
    title: "CPU, cores",
    unit: "short",
    queries: [{ expr: `sum by (service) (${rate(`process_cpu_seconds_total{${where}}`)})`, legend: "{{service}}" }],
  },
  {
    title: "Resident memory",
    description: "Alert MemoryNearLimit at nine tenths of the limit.",
    unit: "bytes",
    queries: [{ expr: `sum by (service) (process_resident_memory_bytes{${where}})`, legend: "{{service}}" }],
  },
  {
    title: "Event loop delay, 99th percentile",
    description: "Alert EventLoopBlocked at 250 ms.",
    unit: "s",
    queries: [{ expr: `max by (service) (nodejs_eventloop_lag_p99_seconds{${where}})`, legend: "{{service}}" }],
  },
];

export const checkPanels = (where: string): Panel[] => [
  {
    title: "Checks: passed",
    description: "1 if the last one found nothing wrong. Alert CheckFailed at 0.",
    unit: "short",
    isNumber: true,
    queries: [{ expr: `min by (service, check) (check_passed{${where}})`, legend: "{{service}} {{check}}" }],
  },
  {
    title: "Checks: time since the last one",
    description: "Alert CheckOverdue at two days.",
    unit: "s",
    isNumber: true,
    queries: [{ expr: `min by (service, check) (check_age_seconds{${where}})`, legend: "{{service}} {{check}}" }],
  },
];

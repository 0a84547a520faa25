/**
 * For each alert, samples at which it fires and samples at which it does not. A series has a sample a minute, or
 * `every` so often, written as promtool does: `0x5 1+2x10` is 0 six times, then 1 and ten more that each add 2.
 */
type Samples = Record<string, string>;
export type Case = {
  /** Of the alert that fires, besides its severity. */
  labels?: Record<string, string>;
  severity?: "critical" | "warning";
  /** When it is looked at. */
  at: string;
  /** `1m` by default. */
  every?: "1m" | "10m";
  fires: Samples;
  silent: Samples;
};

const service = (name: string, more = "") => `{service="${name}"${more}}`;
const http = (status: number) =>
  `http_server_request_duration_seconds_count${service("patient", `,operation="getPatient",http_response_status_code="${status}"`)}`;
const httpBucket = (le: string, operation = "getPatient") =>
  `http_server_request_duration_seconds_bucket${service("patient", `,operation="${operation}",le="${le}"`)}`;
const rpc = (status: string) => `rpc_server_call_duration_seconds_count${service("billing", `,rpc_response_status_code="${status}"`)}`;
const envoy = (name: string, more = "") =>
  `envoy_http_downstream_rq_${name}${service("gateway", `,envoy_http_conn_manager_prefix="public"${more}`)}`;
const revocation = (le: string) => `revocation_lag_seconds_bucket${service("billing", `,le="${le}"`)}`;
const outbox = `outbox_pending${service("patient")}`;
const erasures = `erasures_waiting_seconds${service("patient")}`;
const deadLetters = `consumer_dead_letters_waiting${service("analytics", ',group="analytics"')}`;
const ledgerPassed = `check_passed${service("billing", ',check="ledger"')}`;
const overdue = (pod: number) => `reconciliation_overdue_seconds${service("analytics", `,pod="analytics-${pod}"`)}`;
const lag = (partition: number) =>
  `consumer_lag_events${service("analytics", `,group="analytics",topic="patient.v1",partition="${partition}"`)}`;
const endpoint = (name: string, cluster: string, more = "") =>
  `envoy_vhost_vcluster_upstream_rq_${name}${service("gateway", `,envoy_virtual_cluster="${cluster}"${more}`)}`;
const answers = (cluster: string, kind: number) => endpoint("xx", cluster, `,envoy_response_code_class="${kind}"`);
const burning = (objective: string, kind: string) => ({ objective, kind, service: kind === "freshness" ? "analytics" : "gateway" });

export const cases: Record<string, Case[]> = {
  ServiceDown: [
    {
      at: "4m",
      labels: { service: "patient" },
      fires: { [`up${service("patient")}`]: "1 0x5" },
      silent: { [`up${service("patient")}`]: "1 0 0 1x5" },
    },
  ],
  ReplicasMissing: [
    {
      at: "12m",
      labels: { deployment: "patient" },
      fires: {
        'kube_deployment_spec_replicas{deployment="patient"}': "3x15",
        'kube_deployment_status_replicas_available{deployment="patient"}': "2x15",
      },
      silent: {
        'kube_deployment_spec_replicas{deployment="patient"}': "3x15",
        'kube_deployment_status_replicas_available{deployment="patient"}': "2x8 3x7",
      },
    },
  ],
  MigrationFailed: [
    {
      at: "3m",
      labels: { job_name: "billing-migrate" },
      fires: { 'kube_job_status_failed{job_name="billing-migrate"}': "0 1x5" },
      silent: { 'kube_job_status_failed{job_name="billing-migrate"}': "0x5", 'kube_job_status_failed{job_name="other"}': "1x5" },
    },
  ],
  GatewayErrors: [
    {
      at: "15m",
      fires: { [envoy("xx", ',envoy_response_code_class="5"')]: "0+3x15", [envoy("total")]: "0+100x15" },
      silent: { [envoy("xx", ',envoy_response_code_class="5"')]: "0+1x15", [envoy("total")]: "0+100x15" },
    },
  ],
  RequestErrors: [
    {
      at: "15m",
      labels: { service: "patient" },
      fires: { [http(200)]: "0+97x15", [http(503)]: "0+3x15" },
      silent: { [http(200)]: "0+99x15", [http(500)]: "0+1x15", [http(404)]: "0+50x15" },
    },
    {
      at: "15m",
      labels: { service: "billing" },
      fires: { [rpc("OK")]: "0+90x15", [rpc("INTERNAL")]: "0+5x15", [rpc("unavailable")]: "0+5x15" },
      silent: { [rpc("OK")]: "0+90x15", [rpc("NOT_FOUND")]: "0+50x15" },
    },
  ],
  RequestsSlow: [
    {
      at: "20m",
      labels: { service: "patient" },
      fires: { [httpBucket("1")]: "0+90x20", [httpBucket("2.5")]: "0+100x20", [httpBucket("+Inf")]: "0+100x20" },
      silent: {
        [httpBucket("1")]: "0+100x20",
        [httpBucket("+Inf")]: "0+100x20",
        [httpBucket("1", "exportPatients")]: "0x20",
        [httpBucket("+Inf", "exportPatients")]: "0+50x20",
      },
    },
  ],
  OutboxStuck: [{ at: "7m", labels: { service: "patient" }, fires: { [outbox]: "501x10" }, silent: { [outbox]: "500x10" } }],
  ConsumerLag: [
    {
      at: "12m",
      labels: { group: "analytics" },
      fires: { [lag(0)]: "600x15", [lag(1)]: "600x15" },
      silent: { [lag(0)]: "600x15", [lag(1)]: "400x15" },
    },
  ],
  DeadLettersWaiting: [{ at: "2m", labels: { group: "analytics" }, fires: { [deadLetters]: "1x5" }, silent: { [deadLetters]: "0x5" } }],
  ErasuresWaiting: [
    { at: "70m", labels: { service: "patient" }, fires: { [erasures]: "0+60x80" }, silent: { [erasures]: "0+60x55 0x25" } },
  ],
  RevocationsSlow: [
    {
      at: "15m",
      labels: { service: "billing" },
      fires: { [revocation("1")]: "0+9x15", [revocation("5")]: "0+10x15", [revocation("+Inf")]: "0+10x15" },
      silent: { [revocation("1")]: "0+10x15", [revocation("+Inf")]: "0+10x15" },
    },
  ],
  CircuitBreakerOpen: [
    {
      at: "7m",
      labels: { service: "patient", target: "billing" },
      fires: { [`circuit_breaker_open${service("patient", ',target="billing"')}`]: "1x10" },
      silent: { [`circuit_breaker_open${service("patient", ',target="billing"')}`]: "1x4 0x6" },
    },
  ],
  PasswordQueueLong: [
    {
      at: "4m",
      labels: { service: "auth" },
      fires: { [`thread_pool_waiting${service("auth", ',pool="passwords"')}`]: "51x5" },
      silent: {
        [`thread_pool_waiting${service("auth", ',pool="passwords"')}`]: "50x5",
        [`thread_pool_waiting${service("analytics", ',pool="charts"')}`]: "99x5",
      },
    },
  ],
  RecordOpenedInEmergency: [
    {
      at: "30m",
      fires: { [`patient_emergency_accesses_total${service("patient")}`]: "0x10 1x30" },
      silent: { [`patient_emergency_accesses_total${service("patient")}`]: "7x40" },
    },
  ],
  EventLoopBlocked: [
    {
      at: "12m",
      labels: { service: "patient", pod: "patient-0" },
      fires: { [`nodejs_eventloop_lag_p99_seconds${service("patient", ',pod="patient-0"')}`]: "0.3x15" },
      silent: { [`nodejs_eventloop_lag_p99_seconds${service("patient", ',pod="patient-0"')}`]: "0.3x5 0.1 0.3x9" },
    },
  ],
  MemoryNearLimit: [
    {
      at: "12m",
      labels: { pod: "patient-0", container: "patient" },
      fires: {
        'container_memory_working_set_bytes{pod="patient-0",container="patient"}': "91x15",
        'kube_pod_container_resource_limits{pod="patient-0",container="patient",resource="memory"}': "100x15",
      },
      silent: {
        'container_memory_working_set_bytes{pod="patient-0",container="patient"}': "90x15",
        'kube_pod_container_resource_limits{pod="patient-0",container="patient",resource="memory"}': "100x15",
      },
    },
  ],
  ReconciliationFindings: [
    {
      at: "2m",
      labels: { service: "billing", kind: "account_without_patient" },
      fires: { [`reconciliation_findings${service("billing", ',kind="account_without_patient"')}`]: "0 1x5" },
      silent: { [`reconciliation_findings${service("billing", ',kind="account_without_patient"')}`]: "1 0x5" },
    },
  ],
  ReconciliationOverdue: [
    {
      ...{ at: "140m", labels: { service: "analytics" }, fires: { [overdue(0)]: "0+60x150" } },
      // One replica compares, and the other one has not since it started.
      silent: { [overdue(0)]: "0+60x150", [overdue(1)]: "0+60x100 0x50" },
    },
  ],
  CheckFailed: [
    {
      at: "1m",
      labels: { service: "billing", check: "ledger" },
      fires: { [ledgerPassed]: "0x5" },
      silent: { [ledgerPassed]: "1x5" },
    },
  ],
  CheckOverdue: [
    {
      at: "90m",
      labels: { service: "auth", check: "audit_chain" },
      fires: { [`check_age_seconds${service("auth", ',check="audit_chain"')}`]: "172860+60x100" },
      silent: { [`check_age_seconds${service("auth", ',check="audit_chain"')}`]: "0+60x100" },
    },
  ],
  AvailabilityBudgetBurning: [
    // 2 % of errors for an hour are 20 times the budget.
    {
      at: "70m",
      severity: "critical",
      labels: burning("create-available", "availability"),
      fires: { [answers("patients_create", 2)]: "0+98x80", [answers("patients_create", 5)]: "0+2x80" },
      silent: {
        [answers("patients_create", 2)]: "0+98x80",
        [answers("patients_create", 5)]: "0+2x35 70x45",
        [answers("patients_get", 2)]: "0+99x80",
        [answers("patients_get", 4)]: "0+50x80",
      },
    },
    // One failed log-in in a quiet hour wakes nobody.
    {
      at: "30m",
      severity: "critical",
      labels: burning("log-in-available", "availability"),
      fires: { [answers("log_in", 2)]: "0+1x80", [answers("log_in", 5)]: "0+1x80" },
      silent: { [answers("log_in", 2)]: "0+0.1x80", [answers("log_in", 5)]: "0x25 1x55" },
    },
    // Half a percent for a day.
    {
      at: "25h",
      every: "10m",
      severity: "warning",
      labels: burning("get-available", "availability"),
      fires: { [answers("patients_get", 2)]: "0+995x150", [answers("patients_get", 5)]: "0+5x150" },
      silent: { [answers("patients_get", 2)]: "0+9995x150", [answers("patients_get", 5)]: "0+5x150" },
    },
  ],
  LatencyBudgetBurning: [
    {
      at: "70m",
      severity: "critical",
      labels: burning("create-quick", "latency"),
      fires: {
        [endpoint("time_count", "patients_create")]: "0+100x80",
        [endpoint("time_bucket", "patients_create", ',le="500"')]: "0+80x80",
      },
      silent: {
        [endpoint("time_count", "patients_create")]: "0+100x80",
        [endpoint("time_bucket", "patients_create", ',le="500"')]: "0+95x80",
      },
    },
    // Prometheus 3 writes the bucket as 250.0.
    {
      at: "25h",
      every: "10m",
      severity: "warning",
      labels: burning("get-quick", "latency"),
      fires: {
        [endpoint("time_count", "patients_get")]: "0+100x150",
        [endpoint("time_bucket", "patients_get", ',le="250.0"')]: "0+96x150",
      },
      silent: {
        [endpoint("time_count", "patients_get")]: "0+1000x150",
        [endpoint("time_bucket", "patients_get", ',le="250.0"')]: "0+995x150",
      },
    },
    {
      at: "70m",
      severity: "critical",
      labels: burning("log-in-quick", "latency"),
      fires: { [endpoint("time_count", "log_in")]: "0+100x80", [endpoint("time_bucket", "log_in", ',le="1000"')]: "0+80x80" },
      silent: { [endpoint("time_count", "log_in")]: "0+100x80", [endpoint("time_bucket", "log_in", ',le="1000"')]: "0+99x80" },
    },
  ],
  FreshnessBudgetBurning: [
    {
      at: "70m",
      severity: "critical",
      labels: burning("analytics-fresh", "freshness"),
      fires: { [`consumer_lag_seconds${service("analytics", ',group="analytics",topic="patient.v1",partition="0"')}`]: "120x80" },
      silent: { [`consumer_lag_seconds${service("analytics", ',group="analytics",topic="patient.v1",partition="0"')}`]: "59x80" },
    },
    // It counts too if events do not leave, and if analytics is away.
    {
      at: "70m",
      severity: "critical",
      labels: burning("analytics-fresh", "freshness"),
      fires: { [`outbox_oldest_seconds${service("patient")}`]: "0+60x80" },
      silent: { [`outbox_oldest_seconds${service("patient")}`]: "0x80", [`up${service("patient")}`]: "0x80" },
    },
    {
      at: "25h",
      every: "10m",
      severity: "warning",
      labels: burning("analytics-fresh", "freshness"),
      fires: { [`up${service("analytics")}`]: "1x9 0x150" },
      silent: { [`up${service("analytics")}`]: "1x131 0 1x20" },
    },
  ],
};

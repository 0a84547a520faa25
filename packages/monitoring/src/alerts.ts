/** What somebody has to look at. A runbook in docs/runbooks has its name, and tests/monitoring has cases of it. */
import { ourContainers, ourDeployments, ourMigrations, ours } from "./selectors.ts";

export type Alert = {
  name: string;
  /** PromQL: what is measured. It has a value while all is well, too. */
  value: string;
  /** PromQL: the alert fires while this has a value. */
  expr: string;
  for: string;
  /** `critical` wakes somebody, `warning` waits for the morning. */
  severity: "critical" | "warning";
  summary: string;
};

/** An alert that fires while what is measured is so. */
function alert(name: string, of: Omit<Alert, "name" | "expr"> & { when: string }): Alert {
  const { when, ...rest } = of;
  return { name, ...rest, expr: `${rest.value} ${when}` };
}

const failed = `http_response_status_code=~"5.."`;
const failedCall = `rpc_response_status_code=~"(?i)internal|unavailable|unknown|data_loss"`;
const slowByNature = `operation!~"login|.*[iI]mport.*|.*[eE]xport.*|rebuild.*"`;
const notStreaming = `rpc_method!~".*/Watch.*"`;
/** Of REST and RPC, each with labels of its own. */
const requests = (part: string, http = "", rpc = "") =>
  `rate(http_server_request_duration_seconds_${part}{${ours}${http && `,${http}`}}[5m]) or rate(rpc_server_call_duration_seconds_${part}{${ours}${rpc && `,${rpc}`}}[5m])`;
const publicRequests = (name: string, more = "") =>
  `sum(rate(envoy_http_downstream_rq_${name}{${ours},envoy_http_conn_manager_prefix="public"${more}}[5m]))`;

export const alerts: Alert[] = [
  alert("ServiceDown", {
    value: `up{${ours}}`,
    when: "== 0",
    for: "2m",
    severity: "critical",
    summary: "A pod of {{ $labels.service }} does not answer Prometheus",
  }),
  alert("ReplicasMissing", {
    value: `kube_deployment_spec_replicas{${ourDeployments}} - kube_deployment_status_replicas_available{${ourDeployments}}`,
    when: "> 0",
    for: "10m",
    severity: "warning",
    summary: "{{ $labels.deployment }} has fewer pods ready than it should",
  }),
  alert("MigrationFailed", {
    value: `kube_job_status_failed{${ourMigrations}}`,
    when: "> 0",
    for: "1m",
    severity: "critical",
    summary: "{{ $labels.job_name }} failed; the release did not go on",
  }),
  alert("GatewayErrors", {
    value: `${publicRequests("xx", ',envoy_response_code_class="5"')} / ${publicRequests("total")}`,
    when: "> 0.02",
    for: "5m",
    severity: "critical",
    summary: "More than 2 % of the answers at the gateway are errors of ours",
  }),
  alert("RequestErrors", {
    value: `sum by (service) (${requests("count", failed, failedCall)}) / sum by (service) (${requests("count")})`,
    when: "> 0.02",
    for: "5m",
    severity: "warning",
    summary: "More than 2 % of the answers of {{ $labels.service }} are errors of ours",
  }),
  alert("RequestsSlow", {
    value: `histogram_quantile(0.99, sum by (service, le) (${requests("bucket", slowByNature, notStreaming)}))`,
    when: "> 1",
    for: "10m",
    severity: "warning",
    summary: "One request of {{ $labels.service }} in a hundred takes longer than a second",
  }),
  alert("OutboxStuck", {
    value: `max by (service) (outbox_pending{${ours}})`,
    when: "> 500",
    for: "5m",
    severity: "critical",
    summary: "Events of {{ $labels.service }} wait to be published",
  }),
  alert("ConsumerLag", {
    value: `sum by (group) (max by (group, topic, partition) (consumer_lag_events{${ours}}))`,
    when: "> 1000",
    for: "10m",
    severity: "warning",
    summary: "{{ $labels.group }} is more than 1,000 events behind",
  }),
  alert("DeadLettersWaiting", {
    value: `max by (group) (consumer_dead_letters_waiting{${ours}})`,
    when: "> 0",
    for: "1m",
    severity: "warning",
    summary: "Events that {{ $labels.group }} could not apply wait for a decision",
  }),
  alert("ErasuresWaiting", {
    value: `max by (service) (erasures_waiting_seconds{${ours}})`,
    when: "> 3600",
    for: "5m",
    severity: "warning",
    summary: "An erasure of a patient has waited for a service for more than an hour",
  }),
  alert("RevocationsSlow", {
    value: `histogram_quantile(0.99, sum by (service, le) (rate(revocation_lag_seconds_bucket{${ours}}[5m])))`,
    when: "> 1",
    for: "5m",
    severity: "warning",
    summary: "{{ $labels.service }} hears of ended sessions later than a second after",
  }),
  alert("CircuitBreakerOpen", {
    value: `max by (service, target) (circuit_breaker_open{${ours}})`,
    when: "== 1",
    for: "5m",
    severity: "warning",
    summary: "{{ $labels.service }} does not call {{ $labels.target }} any more, because it fails",
  }),
  alert("PasswordQueueLong", {
    value: `max by (service) (thread_pool_waiting{${ours},pool="passwords"})`,
    when: "> 50",
    for: "2m",
    severity: "warning",
    summary: "Log-ins wait for passwords to be checked",
  }),
  alert("RecordOpenedInEmergency", {
    value: `sum(increase(patient_emergency_accesses_total{${ours}}[1h]))`,
    when: "> 0",
    for: "0m",
    severity: "warning",
    summary: "Somebody has opened a record without a grant within the last hour",
  }),
  alert("EventLoopBlocked", {
    value: `max by (service, pod) (nodejs_eventloop_lag_p99_seconds{${ours}})`,
    when: "> 0.25",
    for: "10m",
    severity: "warning",
    summary: "{{ $labels.pod }} computes so long at a time that its other requests wait",
  }),
  alert("MemoryNearLimit", {
    value: `max by (pod, container) (container_memory_working_set_bytes{${ourContainers}}) / max by (pod, container) (kube_pod_container_resource_limits{${ourContainers},resource="memory"})`,
    when: "> 0.9",
    for: "10m",
    severity: "warning",
    summary: "{{ $labels.pod }} uses more than 90 % of the memory that it may",
  }),
  alert("ReconciliationFindings", {
    value: `max by (service, kind) (reconciliation_findings{${ours}})`,
    when: "> 0",
    for: "0m",
    severity: "warning",
    summary: "The last comparison of {{ $labels.service }} with other services found differences ({{ $labels.kind }})",
  }),
  alert("ReconciliationOverdue", {
    value: `min by (service) (reconciliation_overdue_seconds{${ours}})`,
    when: "> 7200",
    for: "10m",
    severity: "warning",
    summary: "{{ $labels.service }} could not compare itself with other services for hours",
  }),
  alert("CheckFailed", {
    value: `min by (service, check) (check_passed{${ours}})`,
    when: "== 0",
    for: "0m",
    severity: "critical",
    summary: "The last {{ $labels.check }} check of {{ $labels.service }} found something wrong",
  }),
  alert("CheckOverdue", {
    value: `min by (service, check) (check_age_seconds{${ours}})`,
    when: "> 172800",
    for: "1h",
    severity: "warning",
    summary: "Nobody has run the {{ $labels.check }} check of {{ $labels.service }} for two days",
  }),
];

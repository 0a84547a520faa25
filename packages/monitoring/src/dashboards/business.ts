/** What people do, in numbers and without names. Analytics answers questions about groups of patients, not this. */
import { type Dashboard, here, type Panel } from "./dashboard.ts";

const done = (operations: string, statuses = "2..") =>
  `sum by (operation) (increase(http_server_request_duration_seconds_count{${here},operation=~"${operations}",http_response_status_code=~"${statuses}"}[1h]))`;
const called = (methods: string) =>
  `sum by (rpc_method) (increase(rpc_server_call_duration_seconds_count{${here},rpc_method=~"billing.v1.BillingService/(${methods})",rpc_response_status_code=~"(?i)ok"}[1h]))`;
const panel = (title: string, expr: string, legend: string, description = "In an hour."): Panel => ({
  ...{ title, description, unit: "short" },
  queries: [{ expr, legend }],
});
const byOperation = "{{operation}}";
const byMethod = "{{rpc_method}}";

export const business: Dashboard = {
  uid: "pm-business",
  title: "Patient management: business numbers",
  rows: [
    {
      title: "Patients",
      panels: [
        panel(
          "Registered, changed, deleted, merged",
          done("createPatient|patchPatient|replacePatient|deletePatient|mergePatients"),
          byOperation,
        ),
        panel("Looked up", done("getPatient|listPatients|matchPatients"), byOperation),
        panel("Files", done("importPatients|exportPatients"), byOperation),
        panel("Records opened in an emergency", `sum by (service) (increase(patient_emergency_accesses_total{${here}}[1h]))`, "opened"),
      ],
    },
    {
      title: "Billing",
      panels: [
        panel("Charges and payments", called("CreateCharge|VoidCharge|RecordPayment|RefundPayment"), byMethod),
        panel("Invoices", called("CreateInvoice|IssueInvoice|VoidInvoice|CreateCreditNote|WriteOff"), byMethod),
        panel(
          "Patients without an account, accounts without a patient",
          `max by (kind) (reconciliation_findings{${here}})`,
          "{{kind}}",
          "By the last comparison.",
        ),
      ],
    },
    {
      title: "People who sign in",
      panels: [
        panel("Log-ins and log-outs", done("login|refresh|logout"), byOperation),
        panel("Log-ins refused", done("login", "4.."), byOperation),
        panel(
          "Sessions and people whose tokens are refused",
          `max by (service) (revocations_known{${here}})`,
          "{{service}}",
          "Until their tokens have expired.",
        ),
      ],
    },
    {
      title: "Reports",
      panels: [
        panel(
          "Reports",
          `sum by (operation) (increase(http_server_request_duration_seconds_count{${here},service="analytics",http_response_status_code=~"2.."}[1h]))`,
          byOperation,
        ),
      ],
    },
  ],
};

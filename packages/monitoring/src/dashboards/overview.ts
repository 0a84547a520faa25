import { objectives } from "../objectives.ts";
import { type Dashboard, here, rate } from "./dashboard.ts";
import { checkPanels, consumerPanels, eventPanels, processPanels, requestPanels } from "./shared.ts";

const isPublic = `${here},envoy_http_conn_manager_prefix="public"`;

export const overview: Dashboard = {
  uid: "pm-overview",
  title: "Patient management: overview",
  rows: [
    {
      title: "Objectives and alerts",
      panels: [
        {
          title: "Budget of errors left, 30 days",
          description: `1 is untouched, below 0 the objective was missed.\n\n${objectives.map(({ name, promise }) => `${name}: ${promise}.`).join("\n\n")}`,
          unit: "percentunit",
          isNumber: true,
          queries: [{ expr: `1 - avg_over_time(objective:burn_rate:1h{${here}}[30d])`, legend: "{{objective}}" }],
        },
        {
          title: "How fast it burns, one hour",
          description: "At 1 the budget lasts for 30 days. Alerts …BudgetBurning at 14.4 (page).",
          unit: "short",
          queries: [{ expr: `objective:burn_rate:1h{${here}}`, legend: "{{objective}}" }],
        },
        {
          title: "Alerts that fire",
          unit: "short",
          isNumber: true,
          queries: [{ expr: `sum by (alertname, severity) (ALERTS{${here},alertstate="firing"})`, legend: "{{alertname}} ({{severity}})" }],
        },
      ],
    },
    {
      title: "Gateway",
      panels: [
        {
          title: "Answers at the gateway",
          description: "By class of the answer. Alert GatewayErrors at 2 % of 5xx.",
          unit: "reqps",
          queries: [
            {
              expr: `sum by (envoy_response_code_class) (${rate(`envoy_http_downstream_rq_xx{${isPublic}}`)})`,
              legend: "{{envoy_response_code_class}}xx",
            },
          ],
        },
        { title: "Components that answer", unit: "short", queries: [{ expr: `sum by (service) (up{${here}})`, legend: "{{service}}" }] },
      ],
    },
    { title: "Requests", panels: requestPanels(here) },
    { title: "Events", panels: [...eventPanels(here).slice(0, 2), ...consumerPanels(here).slice(1, 2)] },
    { title: "Processes", panels: processPanels(here) },
    { title: "Checks", panels: checkPanels(here) },
  ],
};

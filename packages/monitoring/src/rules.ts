/** The rules of Prometheus, as the chart's PrometheusRule and any other Prometheus read them. */
import { Document } from "yaml";
import { type Alert, alerts } from "./alerts.ts";
import { budgetAlerts, burnRates } from "./burn-rates.ts";
import { runbookOf } from "./runbooks.ts";

export const allAlerts = [...alerts, ...budgetAlerts];

function toRule({ name, expr, for: duration, severity, summary }: Alert) {
  return { alert: name, expr, for: duration, labels: { severity }, annotations: { summary, runbook_url: runbookOf(name) } };
}

export function renderRules(): string {
  const groups = [
    { name: "patient-management", rules: alerts.map(toRule) },
    { name: "patient-management-objectives", rules: [...burnRates, ...budgetAlerts.map(toRule)] },
  ];
  const document = new Document({ groups });
  document.commentBefore = ` Generated from packages/monitoring by \`npm run generate\`. It selects everything; the chart narrows it to its release.`;
  // Expressions are full of double quotes, and stay readable between single ones.
  return document.toString({ lineWidth: 0, singleQuote: true });
}

/** Writes what Prometheus and Grafana read into the chart: `npm run generate`. A test compares. */
import { mkdirSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { renderDashboard } from "./dashboards/dashboard.ts";
import { dashboards } from "./dashboards/dashboards.ts";
import { renderRules } from "./rules.ts";

export const chartFiles = join(import.meta.dirname, "../../../charts/patient-management/files");

/** The files and their texts, by their paths below `chartFiles`. */
export function generated(): Map<string, string> {
  return new Map([
    ["rules.yaml", renderRules()],
    ...dashboards.map((dashboard): [string, string] => [`dashboards/${dashboard.uid.replace("pm-", "")}.json`, renderDashboard(dashboard)]),
  ]);
}

if (import.meta.main) {
  const folder = join(chartFiles, "dashboards");
  mkdirSync(folder, { recursive: true });
  for (const file of readdirSync(folder)) rmSync(join(folder, file));
  for (const [path, text] of generated()) writeFileSync(join(chartFiles, path), text);
}

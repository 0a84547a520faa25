/** A Prometheus for a rehearsal: it has the alerts of the chart in a copy whose durations are short. */
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { allAlerts } from "@pm/monitoring/rules";
import { queriesOf } from "@pm/monitoring/runbooks";
import { startPrometheus } from "@pm/stack/prometheus";

export type Series = { labels: Record<string, string>; value: number };

export type Rehearsing = {
  /** Whether an alert fires, whatever its labels. */
  fires(alert: string): Promise<boolean>;
  query(promql: string): Promise<Series[]>;
  stop(): Promise<void>;
};

/** Rates are over minutes, so that they are smooth. A rehearsal has no disturbance but its own, and no minutes. */
const overSeconds = (promql: string): string => promql.replace(/\[\d+[mh]\]/g, "[10s]");

/** An alert waits for minutes, so that a short disturbance wakes nobody. */
const shortRules = () => ({
  groups: [{ name: "rehearsal", rules: allAlerts.map(({ name, expr }) => ({ alert: name, for: "2s", expr: overSeconds(expr) })) }],
});

/** The queries with which a runbook begins, over seconds. @throws Error if it has none */
export function shortQueriesOf(runbook: string): string[] {
  const queries = queriesOf(runbook);
  if (queries.length === 0) throw new Error(`docs/runbooks/${runbook}.md has no query`);
  return queries.map(overSeconds);
}

/**
 * @param targets ports of this machine with the metrics of each component
 * @throws Error if there is no Prometheus to be had
 */
export async function startRehearsing(targets: Record<string, number>, progress: (line: string) => void): Promise<Rehearsing> {
  const dataDir = mkdtempSync(join(tmpdir(), "pm-rehearsal-"));
  const rules = join(dataDir, "rules.json");
  writeFileSync(rules, JSON.stringify(shortRules()));
  const prometheus = await startPrometheus({ dataDir, targets, rules, everySeconds: 1, progress });
  if (!prometheus) throw new Error("there is no Prometheus: install it (Debian: apt install prometheus), or start a Docker engine");
  const ask = async (path: string) => {
    const answer = await fetch(`${prometheus.url}${path}`, { signal: AbortSignal.timeout(5_000) });
    const text = await answer.text();
    if (!answer.ok) throw new Error(`Prometheus answers ${answer.status} to ${path}: ${text}`);
    return text;
  };
  return {
    async fires(alert) {
      const { data } = JSON.parse(await ask("/api/v1/alerts")) as { data: { alerts: { labels: { alertname: string }; state: string }[] } };
      return data.alerts.some(({ labels, state }) => labels.alertname === alert && state === "firing");
    },
    async query(promql) {
      const { data } = JSON.parse(await ask(`/api/v1/query?query=${encodeURIComponent(promql)}`)) as {
        data: { result: { metric: Record<string, string>; value: [number, string] }[] };
      };
      return data.result.map(({ metric, value: [, value] }) => ({ labels: metric, value: Number(value) }));
    },
    async stop() {
      await prometheus.stop();
      rmSync(dataDir, { recursive: true, force: true });
    },
  };
}

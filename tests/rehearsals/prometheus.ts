/** A Prometheus for a rehearsal: it has the rules of the chart in a copy whose durations are short. */
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { startChild } from "@pm/stack/programs/child";
import { freePort } from "@pm/stack/programs/ports";
import { nativeServer, startServer } from "@pm/stack/programs/server";
import { chart, parse, renderChart, root } from "../charts/render.ts";

export type Series = { labels: Record<string, string>; value: number };

export type Prometheus = {
  /** Whether an alert fires, whatever its labels. */
  fires(alert: string): Promise<boolean>;
  query(promql: string): Promise<Series[]>;
  stop(): Promise<void>;
};

type Rule = { alert?: string; expr: string; for?: string };

/**
 * An alert waits for minutes, so that a short disturbance wakes nobody, and rates are over minutes, so that they are
 * smooth. A rehearsal has no disturbance but its own.
 */
const short = ({ for: _, ...rule }: Rule): Rule => ({ ...rule, for: "2s", expr: rule.expr.replace(/\[\d+[mh]\]/g, "[10s]") });

/** The rules of a release in the namespace `patients`. */
function shortRules(): { groups: { name: string; rules: Rule[] }[] } {
  const rules = parse(renderChart([], ["monitoring.rules.enabled=true"])).find(({ kind }) => kind === "PrometheusRule");
  if (!rules) throw new Error(`${chart} renders no rules`);
  const { groups } = rules.spec as ReturnType<typeof shortRules>;
  return { groups: groups.map((group) => ({ ...group, rules: group.rules.filter(({ alert }) => alert).map(short) })) };
}

/** @param targets where the metrics of each component are, as URLs */
export async function startPrometheus(targets: Record<string, string>): Promise<Prometheus> {
  const folder = mkdtempSync(join(tmpdir(), "pm-rehearsal-"));
  const port = await freePort();
  const write = (name: string, content: object) => {
    writeFileSync(join(folder, name), JSON.stringify(content));
    return join(folder, name);
  };
  const static_configs = Object.entries(targets).map(([service, url]) => ({
    targets: [new URL(url).host],
    labels: { service, namespace: "patients" },
  }));
  const config = write("prometheus.json", {
    global: { scrape_interval: "1s", scrape_timeout: "1s", evaluation_interval: "1s" },
    rule_files: [write("rules.json", shortRules())],
    scrape_configs: [{ job_name: "platform", static_configs }],
  });
  const args = [`--config.file=${config}`, `--storage.tsdb.path=${join(folder, "data")}`, `--web.listen-address=127.0.0.1:${port}`];
  const server = nativeServer(() => startChild({ name: "prometheus", command: "prometheus", args }));
  const ask = async (path: string) => {
    const answer = await fetch(`http://127.0.0.1:${port}${path}`, { signal: AbortSignal.timeout(5_000) });
    const text = await answer.text();
    if (!answer.ok) throw new Error(`Prometheus answers ${answer.status} to ${path}: ${text}`);
    return text;
  };
  const running = await startServer("prometheus", server, {
    answers: async () => void (await ask("/-/ready")),
    afterStop: () => rmSync(folder, { recursive: true, force: true }),
  });
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
    stop: running.stop,
  };
}

/** The queries with which a runbook begins: a line each, in its block of PromQL. */
export function queriesOf(runbook: string): string[] {
  const text = readFileSync(join(root, "docs/runbooks", `${runbook}.md`), "utf8");
  const block = /```promql\n([\s\S]+?)```/.exec(text)?.[1];
  if (block === undefined) throw new Error(`docs/runbooks/${runbook}.md has no query`);
  // A rate over minutes shows what a rehearsal does only after minutes.
  return block
    .trim()
    .split("\n")
    .map((line) => line.replace(/\[\d+[mh]\]/g, "[10s]"));
}

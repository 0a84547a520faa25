/** A Prometheus that asks the services and the gateway, by the rules that the chart installs. */
import { existsSync, mkdirSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { chooseRuntime, dockerServer } from "./docker/docker.ts";
import { type Ports, SERVICES, type ServiceName } from "./names.ts";
import type { Progress } from "./programs/cache.ts";
import { startChild } from "./programs/child.ts";
import { freePort } from "./programs/ports.ts";
import { installPrometheus } from "./programs/prometheus.ts";
import { nativeServer, type RunningServer, startServer } from "./programs/server.ts";
import { ROOT } from "./services.ts";
import { PROMETHEUS } from "./versions.ts";

type MetricPorts = Pick<Ports, ServiceName | "gatewayHealth">;

/** Where each component of a platform on this machine serves its metrics. */
export const targetsOf = (ports: MetricPorts): Record<string, number> => ({
  ...Object.fromEntries(SERVICES.map((name) => [name, ports[name]])),
  gateway: ports.gatewayHealth,
});

export type PrometheusOptions = {
  dataDir: string;
  /** Ports of this machine, by the name of the component whose metrics are there. */
  targets: Record<string, number>;
  /** A file of rules; those of the chart by default. */
  rules?: string;
  /** Between scrapes, and between evaluations of the rules; 5 by default. */
  everySeconds?: number;
  progress: Progress;
};

const RULES = join(ROOT, "charts/patient-management/files/rules.yaml");

/** Returns when it answers. Undefined if there is no Prometheus to be had: neither the program nor a Docker engine. */
export async function startPrometheus(options: PrometheusOptions): Promise<(RunningServer & { url: string }) | undefined> {
  const { dataDir, rules = RULES, everySeconds = 5, progress } = options;
  const found = await installPrometheus(progress).catch(() => undefined);
  if (!found && (await chooseRuntime()) !== "docker") return undefined;
  const [folder, logFile] = [join(dataDir, "observe"), join(dataDir, "logs", "prometheus.log")];
  for (const path of [folder, join(dataDir, "logs")]) mkdirSync(path, { recursive: true });
  const [port, config] = [await freePort(9090), join(folder, "prometheus.json")];
  const host = found || process.platform === "linux" ? "127.0.0.1" : "host.docker.internal";
  const static_configs = Object.entries(options.targets).map(([service, at]) => ({ targets: [`${host}:${at}`], labels: { service } }));
  writeFileSync(
    config,
    JSON.stringify({
      global: { scrape_interval: `${everySeconds}s`, scrape_timeout: `${everySeconds}s`, evaluation_interval: `${everySeconds}s` },
      rule_files: [found ? rules : "/etc/prometheus/rules.yaml"],
      scrape_configs: [{ job_name: "platform", static_configs }],
    }),
  );
  const args = [`--web.listen-address=${found ? "127.0.0.1" : "0.0.0.0"}:${port}`, "--enable-feature=exemplar-storage"];
  const server = found
    ? nativeServer(() => {
        // What a killed Prometheus leaves behind belongs to the next one.
        if (existsSync(join(folder, "prometheus", "lock"))) rmSync(join(folder, "prometheus", "lock"));
        const native = [`--config.file=${config}`, `--storage.tsdb.path=${join(folder, "prometheus")}`];
        return startChild({ name: "prometheus", command: found.prometheus, args: [...native, ...args], logFile });
      })
    : await dockerServer({
        ...{ name: "prometheus", image: PROMETHEUS.image, logFile, progress },
        command: ["--config.file=/etc/prometheus/prometheus.yml", ...args],
        files: [
          { source: config, target: "/etc/prometheus/prometheus.yml" },
          { source: rules, target: "/etc/prometheus/rules.yaml" },
        ],
        ...(process.platform === "linux" ? { hostNetwork: true } : { ports: { [port]: port } }),
      });
  const url = `http://127.0.0.1:${port}`;
  const answers = async () => {
    const answer = await fetch(`${url}/-/ready`, { signal: AbortSignal.timeout(1_000) });
    if (!answer.ok) throw new Error(`/-/ready answered ${answer.status}`);
  };
  return { ...(await startServer("prometheus", server, { answers })), url };
}

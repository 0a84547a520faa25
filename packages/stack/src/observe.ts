/** `npm start -- --observe`: a collector, whose spans are kept in a file, and Prometheus. */
import { once } from "node:events";
import { createWriteStream, existsSync, mkdirSync, rmSync, writeFileSync } from "node:fs";
import { createServer, type Server } from "node:http";
import { join } from "node:path";
import { chooseRuntime, dockerServer } from "./docker/docker.ts";
import { type Ports, SERVICES } from "./names.ts";
import type { Progress } from "./programs/cache.ts";
import { hasProgram, startChild } from "./programs/child.ts";
import { installCollector } from "./programs/collector.ts";
import { freePort } from "./programs/ports.ts";
import { nativeServer, type RunningServer, startServer } from "./programs/server.ts";
import { PROMETHEUS } from "./versions.ts";

export type Observers = {
  /** What the services and the gateway have to know: every request is traced. */
  env: Record<string, string>;
  gateway: Record<string, string>;
  collectorUrl: string;
  /** Undefined if no Prometheus is installed and no Docker engine answers. */
  prometheusUrl: string | undefined;
  stop(): Promise<void>;
};

type Options = { dataDir: string; ports: Pick<Ports, (typeof SERVICES)[number] | "gatewayHealth">; progress: Progress };

/** The file of spans below the folder of data: a line of OTLP's JSON per batch. `npm run trace` reads it. */
export const SPANS_FILE = join("observe", "spans.jsonl");

/** Starts both and returns when they answer. The first time, Go builds the collector, which takes minutes. */
export async function startObservers(options: Options): Promise<Observers> {
  const folder = join(options.dataDir, "observe");
  for (const path of [folder, join(options.dataDir, "logs")]) mkdirSync(path, { recursive: true });
  const [collectorPort, keeperPort] = [await freePort(4318), await freePort()];
  const keeper = await keepSpans(join(options.dataDir, SPANS_FILE), keeperPort);
  const [collector, prometheus] = await Promise.all([
    startCollector(options, folder, { collectorPort, keeperPort }),
    startPrometheus(options, folder),
  ]);
  const collectorUrl = `http://127.0.0.1:${collectorPort}`;
  return {
    env: { OTEL_EXPORTER_OTLP_ENDPOINT: collectorUrl, OTEL_TRACES_SAMPLER_ARG: "1" },
    gateway: { TRACING: "on", COLLECTOR_PORT: String(collectorPort), TRACES_PER_MILLION: "1000000" },
    collectorUrl,
    prometheusUrl: prometheus?.url,
    async stop() {
      await Promise.all([collector.stop(), prometheus?.stop()]);
      keeper.close();
    },
  };
}

/** Adds each body that is posted to a file, as a line. A start begins a new file. */
async function keepSpans(path: string, port: number): Promise<Server> {
  const file = createWriteStream(path, { mode: 0o600 });
  const server = createServer(async (request, response) => {
    const chunks: Buffer[] = [];
    for await (const chunk of request) chunks.push(chunk);
    file.write(Buffer.concat([...chunks, Buffer.from("\n")]));
    response.writeHead(200, { "content-type": "application/json" }).end("{}");
  });
  await once(server.listen(port, "127.0.0.1"), "listening");
  return server;
}

type CollectorPorts = { collectorPort: number; keeperPort: number };

async function startCollector({ dataDir, progress }: Options, folder: string, ports: CollectorPorts): Promise<RunningServer> {
  const command = await installCollector(progress);
  const config = join(folder, "collector.json");
  const { collectorPort: port, keeperPort } = ports;
  writeFileSync(
    config,
    JSON.stringify({
      receivers: { otlp: { protocols: { http: { endpoint: `127.0.0.1:${port}` } } } },
      exporters: { otlp_http: { endpoint: `http://127.0.0.1:${keeperPort}`, encoding: "json", compression: "none" } },
      service: {
        pipelines: { traces: { receivers: ["otlp"], exporters: ["otlp_http"] } },
        telemetry: { metrics: { level: "none" }, logs: { level: "warn" } },
      },
    }),
  );
  const server = nativeServer(() =>
    startChild({ name: "collector", command, args: ["--config", config], logFile: join(dataDir, "logs", "collector.log") }),
  );
  // A GET is refused, and a refusal is an answer.
  const answers = async () => void (await fetch(`http://127.0.0.1:${port}/v1/traces`, { signal: AbortSignal.timeout(1_000) }));
  return startServer("collector", server, { answers });
}

async function startPrometheus(
  { dataDir, ports, progress }: Options,
  folder: string,
): Promise<(RunningServer & { url: string }) | undefined> {
  const isInstalled = await hasProgram("prometheus");
  if (!isInstalled && (await chooseRuntime()) !== "docker") return undefined;
  const port = await freePort(9090);
  const config = join(folder, "prometheus.json");
  const host = isInstalled || process.platform === "linux" ? "127.0.0.1" : "host.docker.internal";
  const targets = { ...Object.fromEntries(SERVICES.map((name) => [name, ports[name]])), gateway: ports.gatewayHealth };
  const static_configs = Object.entries(targets).map(([service, at]) => ({ targets: [`${host}:${at}`], labels: { service } }));
  writeFileSync(config, JSON.stringify({ global: { scrape_interval: "5s" }, scrape_configs: [{ job_name: "platform", static_configs }] }));
  const args = [`--web.listen-address=${isInstalled ? "127.0.0.1" : "0.0.0.0"}:${port}`, "--enable-feature=exemplar-storage"];
  const logFile = join(dataDir, "logs", "prometheus.log");
  const server = isInstalled
    ? nativeServer(() => {
        // What a killed Prometheus leaves behind belongs to the next one.
        if (existsSync(join(folder, "prometheus", "lock"))) rmSync(join(folder, "prometheus", "lock"));
        const native = [`--config.file=${config}`, `--storage.tsdb.path=${join(folder, "prometheus")}`];
        return startChild({ name: "prometheus", command: "prometheus", args: [...native, ...args], logFile });
      })
    : await dockerServer({
        ...{ name: "prometheus", image: PROMETHEUS.image, logFile, progress },
        command: ["--config.file=/etc/prometheus/prometheus.yml", ...args],
        files: [{ source: config, target: "/etc/prometheus/prometheus.yml" }],
        ...(process.platform === "linux" ? { hostNetwork: true } : { ports: { [port]: port } }),
      });
  const url = `http://127.0.0.1:${port}`;
  const answers = async () => {
    const answer = await fetch(`${url}/-/ready`, { signal: AbortSignal.timeout(1_000) });
    if (!answer.ok) throw new Error(`/-/ready answered ${answer.status}`);
  };
  return { ...(await startServer("prometheus", server, { answers })), url };
}

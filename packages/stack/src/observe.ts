/** `npm start -- --observe`: a collector, whose spans are kept in a file, and Prometheus. */
import { once } from "node:events";
import { createWriteStream, mkdirSync, writeFileSync } from "node:fs";
import { createServer, type Server } from "node:http";
import { join } from "node:path";
import { startChild } from "./programs/child.ts";
import { installCollector } from "./programs/collector.ts";
import { freePort } from "./programs/ports.ts";
import { nativeServer, type RunningServer, startServer } from "./programs/server.ts";
import { type PrometheusOptions, startPrometheus } from "./prometheus.ts";

export type Observers = {
  /** What the services and the gateway have to know: every request is traced. */
  env: Record<string, string>;
  gateway: Record<string, string>;
  collectorUrl: string;
  /** Undefined if there is no Prometheus to be had. */
  prometheusUrl: string | undefined;
  stop(): Promise<void>;
};

/** The file of spans below the folder of data: a line of OTLP's JSON per batch. `npm run trace` reads it. */
export const SPANS_FILE = join("observe", "spans.jsonl");

/** Starts both and returns when they answer. The first time, Go builds the collector, which takes minutes. */
export async function startObservers(options: PrometheusOptions): Promise<Observers> {
  const folder = join(options.dataDir, "observe");
  for (const path of [folder, join(options.dataDir, "logs")]) mkdirSync(path, { recursive: true });
  const [collectorPort, keeperPort] = [await freePort(4318), await freePort()];
  const keeper = await keepSpans(join(options.dataDir, SPANS_FILE), keeperPort);
  const [collector, prometheus] = await Promise.all([
    startCollector(options, folder, { collectorPort, keeperPort }),
    startPrometheus(options),
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

async function startCollector({ dataDir, progress }: PrometheusOptions, folder: string, ports: CollectorPorts): Promise<RunningServer> {
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

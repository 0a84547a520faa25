/**
 * Lets a collector with the configuration of k8s/observability judge traces, whose spans come from two services in two
 * batches. Exits with 1 if it keeps others than docs/observability.md says, or a part of one.
 */
import { randomBytes } from "node:crypto";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { startSink } from "@pm/kit/test/otlp-sink";
import { startChild } from "@pm/stack/programs/child";
import { builtCollector } from "@pm/stack/programs/collector";
import { freePort } from "@pm/stack/programs/ports";
import { nativeServer, startServer } from "@pm/stack/programs/server";
import { ROOT } from "@pm/stack/services";

type Kind = {
  traces: number;
  /** At least and at most so many of them are kept. */
  kept: [number, number];
  /** Milliseconds from the beginning of a trace to the end of its second span. */
  takes?: number;
  /** Whether the second span ends with an error. */
  fails?: boolean;
  mode?: "head" | "tail";
};

const kinds: Record<string, Kind> = {
  // One in a hundred is fifty, give or take seven; five times that is never seen.
  "quick and without an error": { traces: 5_000, kept: [15, 85] },
  "an error in the second service": { traces: 50, kept: [50, 50], fails: true },
  "slow because of both services together": { traces: 50, kept: [50, 50], takes: 1_200 },
  "almost slow": { traces: 50, kept: [0, 5], takes: 990 },
  "chosen at the gateway": { traces: 50, kept: [50, 50], mode: "head" },
};
const SPANS_OF_A_TRACE = 2;
/** How long the collector waits for the spans of a trace, and a little more. */
const DECISION_MS = 13_000;

const begin = BigInt(Date.now()) * 1_000_000n;
const at = (milliseconds: number) => String(begin + BigInt(milliseconds) * 1_000_000n);
const attribute = (key: string, stringValue: string) => ({ key, value: { stringValue } });

/** A batch of OTLP's JSON, as services send it: one span of each trace. */
function batch(
  service: string,
  name: string,
  traceIds: string[],
  { mode = "tail", takes = 20, fails = false }: Omit<Kind, "traces" | "kept">,
) {
  const isSecond = service === "billing";
  const [startTimeUnixNano, endTimeUnixNano] = isSecond ? [at(takes / 2), at(takes)] : [at(0), at(takes / 2)];
  const spans = traceIds.map((traceId) => ({
    ...{ traceId, spanId: randomBytes(8).toString("hex"), name, kind: 2, startTimeUnixNano, endTimeUnixNano },
    status: isSecond && fails ? { code: 2 } : {},
  }));
  const attributes = [attribute("service.name", service), attribute("sampling.mode", mode)];
  return { resourceSpans: [{ resource: { attributes }, scopeSpans: [{ spans }] }] };
}

const folder = mkdtempSync(join(tmpdir(), "pm-sampling-"));
const sink = await startSink();
const [port, health, metrics] = [await freePort(), await freePort(), await freePort()];
// What a pod has for itself alone.
const ofThisMachine = join(folder, "collector.json");
writeFileSync(
  ofThisMachine,
  JSON.stringify({
    receivers: { otlp: { protocols: { http: { endpoint: `127.0.0.1:${port}` } } } },
    exporters: { otlp_http: { compression: "none" } },
    extensions: { health_check: { endpoint: `127.0.0.1:${health}` } },
    service: { telemetry: { metrics: { readers: [{ pull: { exporter: { prometheus: { host: "127.0.0.1", port: metrics } } } }] } } },
  }),
);
const args = [join(ROOT, "k8s/observability/files/collector.yaml"), ofThisMachine].flatMap((file) => ["--config", file]);
const env = { ...process.env, OTLP_ENDPOINT: sink.url };
const collector = await startServer(
  "collector",
  nativeServer(() => startChild({ name: "collector", command: builtCollector(), args, env })),
  { answers: async () => void (await fetch(`http://127.0.0.1:${health}/`, { signal: AbortSignal.timeout(1_000) })) },
);

async function send(body: object): Promise<void> {
  const headers = { "content-type": "application/json" };
  const answer = await fetch(`http://127.0.0.1:${port}/v1/traces`, { method: "POST", headers, body: JSON.stringify(body) });
  if (!answer.ok) throw new Error(`the collector answered ${answer.status}: ${await answer.text()}`);
}

try {
  const sent = Object.entries(kinds).map(([name, kind]) => ({
    ...{ name, kind },
    traceIds: Array.from({ length: kind.traces }, () => randomBytes(16).toString("hex")),
  }));
  for (const service of ["patient", "billing"]) {
    for (const { name, kind, traceIds } of sent) await send(batch(service, name, traceIds, kind));
    await delay(1_000);
  }
  await delay(DECISION_MS);
  for (const { name, kind, traceIds } of sent) {
    const spansOf = Map.groupBy(
      sink.spans.filter((span) => span.name === name),
      ({ traceId }) => traceId,
    );
    const [least, most] = kind.kept;
    const isWhole = [...spansOf].every(([id, spans]) => spans.length === SPANS_OF_A_TRACE && traceIds.includes(id));
    const isRight = isWhole && spansOf.size >= least && spansOf.size <= most;
    process.stdout.write(
      `${isRight ? "right" : "WRONG"}  ${spansOf.size} of ${kind.traces} are kept${isWhole ? "" : ", and not whole"}: ${name}\n`,
    );
    if (!isRight) process.exitCode = 1;
  }
} finally {
  await collector.stop();
  await sink.close();
  rmSync(folder, { recursive: true, force: true });
}

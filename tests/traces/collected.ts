/** A platform whose spans all go to a sink, for tests that look at them. */
import { randomUUID } from "node:crypto";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type Sink, type SinkSpan, startSink } from "@pm/kit/test/otlp-sink";
import { type Platform, startPlatform } from "@pm/stack/platform";
import { expect } from "vitest";
import { type Client, logIn } from "../e2e/client.ts";

export let sink: Sink;
export let platform: Platform;
export let admin: Client;
export const dataDir = mkdtempSync(join(tmpdir(), "pm-traces-"));

/** @param env for all services */
export async function startTraced(env: Record<string, string> = {}): Promise<void> {
  sink = await startSink();
  platform = await startPlatform({
    dataDir,
    durable: false,
    env: { all: { OTEL_EXPORTER_OTLP_ENDPOINT: sink.url, ...env } },
    gateway: { TRACING: "on", COLLECTOR_PORT: String(sink.port), TRACES_PER_MILLION: "1000000" },
  });
  admin = await logIn(platform);
}

export async function stopTraced(): Promise<void> {
  await platform?.stop();
  await sink?.close();
  rmSync(dataDir, { recursive: true, force: true });
}

export const spansOf = (traceId: string): SinkSpan[] => sink.spans.filter((span) => span.traceId === traceId);

export function newTrace(flags = "00") {
  const traceId = randomUUID().replaceAll("-", "");
  return { traceId, headers: { traceparent: `00-${traceId}-00f067aa0ba902b7-${flags}` } };
}

/** The spans of a trace from the root to the leaf, as `service: name`. */
export function pathTo(leaf: SinkSpan): string[] {
  const parent = spansOf(leaf.traceId).find(({ spanId }) => spanId === leaf.parentSpanId);
  return [...(parent ? pathTo(parent) : []), `${leaf.resource["service.name"]}: ${leaf.name}`];
}

export async function untilSpan(traceId: string, name: string): Promise<SinkSpan> {
  const find = () => spansOf(traceId).find((span) => span.name === name);
  await expect.poll(find, { timeout: 20_000, message: () => spansOf(traceId).map(pathTo).join("\n") } as object).toBeDefined();
  return find() as SinkSpan;
}

/** Waits until the trace has these paths. */
export async function untilPaths(traceId: string, paths: string[][]): Promise<void> {
  for (const path of paths) await expect.poll(() => spansOf(traceId).map(pathTo), { timeout: 20_000 }).toContainEqual(path);
}

export const millisecondsOf = ({ start, end }: SinkSpan): number => Number(end - start) / 1e6;

/**
 * `npm run trace -- <x-request-id or trace id>` prints the trace of a request as a tree: when each span began, how long
 * it took, of which process it is. It reads what `npm start -- --observe` has collected in this folder.
 */
import { existsSync, readFileSync } from "node:fs";
import { join, resolve } from "node:path";
import { SPANS_FILE } from "./observe.ts";
import { ROOT } from "./services.ts";

type Value = { stringValue?: string; intValue?: string; arrayValue?: { values?: Value[] } };
type Attribute = { key: string; value: Value };
type OtlpSpan = {
  traceId: string;
  spanId: string;
  parentSpanId?: string;
  name: string;
  startTimeUnixNano: string;
  endTimeUnixNano: string;
  attributes?: Attribute[];
  links?: { traceId: string; spanId: string }[];
  status?: { code?: number };
};
type Span = OtlpSpan & { service: string };
type Line = { resourceSpans: { resource: { attributes?: Attribute[] }; scopeSpans: { spans: OtlpSpan[] }[] }[] };

const valuesOf = ({ stringValue, intValue, arrayValue }: Value): string[] =>
  arrayValue ? (arrayValue.values ?? []).flatMap(valuesOf) : [stringValue ?? intValue ?? ""];
const attributeOf = (attributes: Attribute[] = [], key: string): string =>
  attributes.filter((attribute) => attribute.key === key).flatMap(({ value }) => valuesOf(value))[0] ?? "";

/** Reads spans from OTLP's JSON, a request per line. */
export function readSpans(text: string): Span[] {
  return text
    .split("\n")
    .filter((line) => line.startsWith("{"))
    .flatMap((line) => (JSON.parse(line) as Line).resourceSpans)
    .flatMap(({ resource, scopeSpans }) => {
      const service = attributeOf(resource.attributes, "service.name");
      return scopeSpans.flatMap(({ spans }) => spans.map((span) => ({ ...span, service })));
    });
}

const requestIds = ["http.request.header.x-request-id", "rpc.request.metadata.x-request-id", "guid:x-request-id"];

/**
 * The traces of a request, each as lines of text. A batch of another request's trace that carried it is shown too.
 * @param wanted the request's `x-request-id`, or the id of a trace
 */
export function printTraces(spans: Span[], wanted: string): string[] {
  const isWanted = ({ traceId, attributes }: Span) =>
    traceId === wanted || requestIds.some((key) => attributeOf(attributes, key) === wanted);
  const ids = [...new Set(spans.filter(isWanted).map(({ traceId }) => traceId))];
  return ids.flatMap((id) => printTrace(spans, id));
}

function printTrace(all: Span[], traceId: string): string[] {
  const spans = all
    .filter((span) => span.traceId === traceId)
    .sort((a, b) => Number(BigInt(a.startTimeUnixNano) - BigInt(b.startTimeUnixNano)));
  const own = new Set(spans.map(({ spanId }) => spanId));
  const carrying = all.filter((span) => span.traceId !== traceId && span.links?.some((link) => own.has(link.spanId)));
  const children = Map.groupBy([...spans, ...all.filter((span) => !own.has(span.spanId))], ({ parentSpanId = "" }) => parentSpanId);
  const began = BigInt(spans[0]?.startTimeUnixNano ?? 0);
  const milliseconds = (nanoseconds: bigint) => `${(Number(nanoseconds) / 1_000_000).toFixed(1)} ms`.padStart(12);
  const lines = [`trace ${traceId}`];
  const print = (span: Span, depth: number, note = ""): void => {
    const [start, end] = [BigInt(span.startTimeUnixNano), BigInt(span.endTimeUnixNano)];
    const failed = span.status?.code === 2 ? `  failed: ${attributeOf(span.attributes, "error.type") || "yes"}` : "";
    lines.push(
      `${milliseconds(start - began)}${milliseconds(end - start)}  ${span.service.padEnd(10)}${"  ".repeat(depth)}${span.name}${failed}${note}`,
    );
    for (const child of children.get(span.spanId) ?? []) print(child, depth + 1);
  };
  for (const span of spans) if (!own.has(span.parentSpanId ?? "")) print(span, 0);
  for (const span of carrying) print(span, 0, `  (in trace ${span.traceId}, for this one too)`);
  return lines;
}

if (import.meta.main) {
  const file = join(resolve(process.env.PM_DATA_DIR || join(ROOT, ".data")), SPANS_FILE);
  const [wanted = ""] = process.argv.slice(2);
  const fail = (message: string): never => {
    process.stderr.write(`npm run trace: ${message}\n`);
    process.exit(1);
  };
  if (wanted === "") fail("name a request: npm run trace -- <the x-request-id of its answer>");
  if (!existsSync(file)) fail("there are no traces here; run `npm start -- --observe` first");
  const lines = printTraces(readSpans(readFileSync(file, "utf8")), wanted);
  if (lines.length === 0) fail(`no span has the request id or trace id ${wanted}; spans arrive after about two seconds`);
  process.stdout.write(`${lines.join("\n")}\n`);
}

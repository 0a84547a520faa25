/** A collector for tests: takes OTLP over HTTP, in JSON (our services) and in protobuf (Envoy), and keeps all spans. */
import { once } from "node:events";
import { createServer, type IncomingMessage } from "node:http";
import type { AddressInfo } from "node:net";
import { BinaryReader } from "@bufbuild/protobuf/wire";

export type SinkSpan = {
  traceId: string;
  spanId: string;
  parentSpanId: string;
  name: string;
  /** As OTLP numbers them: 2 server, 3 client, 4 producer, 5 consumer. */
  kind: number;
  /** Nanoseconds since 1970. */
  start: bigint;
  end: bigint;
  isError: boolean;
  attributes: Record<string, unknown>;
  resource: Record<string, unknown>;
  links: { traceId: string; spanId: string }[];
};

export type Sink = {
  /** `http://127.0.0.1:<port>` */
  url: string;
  port: number;
  spans: SinkSpan[];
  /** All bytes that arrived, for a search for what must not be in them. */
  received: Buffer[];
  /** What the next requests get instead of 200. */
  status: number;
  close(): Promise<void>;
};

export async function startSink(): Promise<Sink> {
  const server = createServer(async (request, response) => {
    const body = await read(request);
    sink.received.push(body);
    const isJson = request.headers["content-type"] === "application/json";
    if (sink.status === 200) sink.spans.push(...(isJson ? fromJson(body.toString()) : fromProtobuf(body)));
    response.writeHead(sink.status, { "content-type": request.headers["content-type"] }).end(isJson ? "{}" : "");
  });
  await once(server.listen(0, "127.0.0.1"), "listening");
  const { port } = server.address() as AddressInfo;
  const sink: Sink = {
    ...{ url: `http://127.0.0.1:${port}`, port, spans: [], received: [], status: 200 },
    async close() {
      server.closeAllConnections();
      server.close();
    },
  };
  return sink;
}

async function read(request: IncomingMessage): Promise<Buffer> {
  const chunks: Buffer[] = [];
  for await (const chunk of request) chunks.push(chunk);
  return Buffer.concat(chunks);
}

type JsonValue = {
  stringValue?: string;
  boolValue?: boolean;
  intValue?: string;
  doubleValue?: number;
  arrayValue?: { values: JsonValue[] };
};
type JsonAttribute = { key: string; value: JsonValue };
type JsonSpan = Omit<SinkSpan, "start" | "end" | "isError" | "attributes" | "resource" | "links"> & {
  status?: { code: number };
  startTimeUnixNano: string;
  endTimeUnixNano: string;
  attributes: JsonAttribute[];
  links?: SinkSpan["links"];
};

function fromJson(text: string): SinkSpan[] {
  const toPlain = (value: JsonValue): unknown =>
    value.stringValue ??
    value.boolValue ??
    value.doubleValue ??
    (value.intValue === undefined ? value.arrayValue?.values.map(toPlain) : Number(value.intValue));
  const toRecord = (attributes: JsonAttribute[]) => Object.fromEntries(attributes.map(({ key, value }) => [key, toPlain(value)]));
  const { resourceSpans } = JSON.parse(text) as {
    resourceSpans: { resource: { attributes: JsonAttribute[] }; scopeSpans: { spans: JsonSpan[] }[] }[];
  };
  return resourceSpans.flatMap(({ resource, scopeSpans }) =>
    scopeSpans.flatMap(({ spans }) =>
      spans.map(({ startTimeUnixNano, endTimeUnixNano, attributes, parentSpanId, links, status, ...span }) => ({
        ...span,
        isError: status?.code === 2,
        parentSpanId: parentSpanId ?? "",
        start: BigInt(startTimeUnixNano),
        end: BigInt(endTimeUnixNano),
        attributes: toRecord(attributes),
        resource: toRecord(resource.attributes),
        links: (links ?? []).map(({ traceId, spanId }) => ({ traceId, spanId })),
      })),
    ),
  );
}

type Field = { number: number; bytes: Uint8Array; number64: bigint };

/** The fields of a message, without a description of it: opentelemetry/proto/trace/v1/trace.proto describes them. */
function fieldsOf(bytes: Uint8Array): Field[] {
  const reader = new BinaryReader(bytes);
  const fields: Field[] = [];
  while (reader.pos < reader.len) {
    const [number, type] = reader.tag();
    const field: Field = { number, bytes: new Uint8Array(), number64: 0n };
    if (type === 0) field.number64 = BigInt(reader.uint64());
    else if (type === 1) field.number64 = BigInt(reader.fixed64());
    else if (type === 2) field.bytes = reader.bytes();
    else reader.skip(type);
    fields.push(field);
  }
  return fields;
}

const all = (fields: Field[], number: number) => fields.filter((field) => field.number === number).map(({ bytes }) => bytes);
const one = (fields: Field[], number: number) => fields.find((field) => field.number === number);
const text = (bytes: Uint8Array | undefined) => Buffer.from(bytes ?? []).toString();
const hex = (bytes: Uint8Array | undefined) => Buffer.from(bytes ?? []).toString("hex");

function attributesOf(fields: Field[], number: number): Record<string, unknown> {
  return Object.fromEntries(
    all(fields, number).map((bytes) => {
      const attribute = fieldsOf(bytes);
      const [value] = fieldsOf(one(attribute, 2)?.bytes ?? new Uint8Array());
      return [text(one(attribute, 1)?.bytes), value?.number === 1 ? text(value.bytes) : Number(value?.number64 ?? 0n)];
    }),
  );
}

function fromProtobuf(body: Uint8Array): SinkSpan[] {
  return all(fieldsOf(body), 1).flatMap((resourceSpans) => {
    const fields = fieldsOf(resourceSpans);
    const resource = attributesOf(fieldsOf(one(fields, 1)?.bytes ?? new Uint8Array()), 1);
    const spans = all(fields, 2).flatMap((scopeSpans) => all(fieldsOf(scopeSpans), 2));
    return spans.map(fieldsOf).map((span) => ({
      traceId: hex(one(span, 1)?.bytes),
      spanId: hex(one(span, 2)?.bytes),
      parentSpanId: hex(one(span, 4)?.bytes),
      name: text(one(span, 5)?.bytes),
      kind: Number(one(span, 6)?.number64 ?? 0n),
      start: one(span, 7)?.number64 ?? 0n,
      end: one(span, 8)?.number64 ?? 0n,
      isError: one(fieldsOf(one(span, 15)?.bytes ?? new Uint8Array()), 3)?.number64 === 2n,
      attributes: attributesOf(span, 9),
      resource,
      links: all(span, 13)
        .map(fieldsOf)
        .map((link) => ({ traceId: hex(one(link, 1)?.bytes), spanId: hex(one(link, 2)?.bytes) })),
    }));
  });
}

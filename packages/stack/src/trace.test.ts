import { expect, test } from "vitest";
import { printTraces, readSpans } from "./trace.ts";

const text = (key: string, stringValue: string) => ({ key, value: { stringValue } });
const span = (spanId: string, parentSpanId: string, name: string, [start, end]: [number, number], more: object = {}) => ({
  ...{ traceId: "t1", spanId, parentSpanId, name },
  ...{ startTimeUnixNano: `${1_700_000_000_000_000_000n + BigInt(start) * 1_000_000n}` },
  ...{ endTimeUnixNano: `${1_700_000_000_000_000_000n + BigInt(end) * 1_000_000n}`, ...more },
});
const line = (service: string, ...spans: object[]) =>
  JSON.stringify({ resourceSpans: [{ resource: { attributes: [text("service.name", service)] }, scopeSpans: [{ spans }] }] });
const requestId = { key: "http.request.header.x-request-id", value: { arrayValue: { values: [{ stringValue: "request-1" }] } } };

const file = [
  line("patient", span("b", "a", "POST /patients", [1, 19], { attributes: [requestId] }), span("c", "b", "patients_create", [2, 9])),
  line("gateway", span("a", "f", "POST patients", [0, 20])),
  line("billing", span("d", "b", "accounts_open", [10, 15], { status: { code: 2 }, attributes: [text("error.type", "23505")] })),
  line("patient", span("x", "", "send outbox", [110, 112], { traceId: "t2", links: [{ traceId: "t1", spanId: "b" }] })),
  "",
].join("\n");

const expected = `trace t1
      0.0 ms     20.0 ms  gateway   POST patients
      1.0 ms     18.0 ms  patient     POST /patients
      2.0 ms      7.0 ms  patient       patients_create
     10.0 ms      5.0 ms  billing       accounts_open  failed: 23505
    110.0 ms      2.0 ms  patient   send outbox  (in trace t2, for this one too)`;

test.each(["request-1", "t1"])("the trace of %s is printed as a tree, with the batches of other traces that carried it", (wanted) => {
  expect(printTraces(readSpans(file), wanted).join("\n")).toBe(expected);
});

test("of an unknown request nothing is printed", () => {
  expect(printTraces(readSpans(file), "request-2")).toEqual([]);
});

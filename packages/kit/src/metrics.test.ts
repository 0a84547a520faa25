import { TraceFlags, trace } from "@opentelemetry/api";
import { expect, test } from "vitest";
import { measureHttp, measureRpc, metrics, showAsked } from "./metrics.ts";

const spanOf = (traceFlags: TraceFlags) => trace.wrapSpanContext({ traceId: "a".repeat(32), spanId: "b".repeat(16), traceFlags });
const measured = { span: spanOf(TraceFlags.NONE), seconds: 0.003 };
const route = { method: "GET", route: "/patients/{id}", operation: "getPatient", status: 200 };
const linesOf = async (name: string) => (await metrics.metrics()).split("\n").filter((line) => line.startsWith(name));

test("a request is measured under the name of the conventions and under the former one", async () => {
  measureHttp(route, measured);
  measureRpc({ system: "grpc", method: "billing.v1.BillingService/GetBalance", code: "OK" }, measured);
  expect(await linesOf("http_server_request_duration_seconds_count")).toEqual([
    'http_server_request_duration_seconds_count{http_request_method="GET",http_route="/patients/{id}",http_response_status_code="200",operation="getPatient"} 1',
  ]);
  expect(await linesOf("rpc_server_call_duration_seconds_count")).toEqual([
    'rpc_server_call_duration_seconds_count{rpc_system_name="grpc",rpc_method="billing.v1.BillingService/GetBalance",rpc_response_status_code="OK"} 1',
  ]);
  expect(await linesOf("request_duration_seconds_count")).toEqual([
    'request_duration_seconds_count{protocol="http",operation="getPatient",status="200"} 1',
    'request_duration_seconds_count{protocol="rpc",operation="GetBalance",status="ok"} 1',
  ]);
});

test("a sampled request is the example of its bucket, and no other request is", async () => {
  measureHttp({ ...route, operation: "one" }, { ...measured, span: spanOf(TraceFlags.SAMPLED) });
  measureHttp({ ...route, operation: "other" }, measured);
  const examples = (await linesOf("http_server_request_duration_seconds_bucket")).filter((line) => line.includes("trace_id"));
  expect(examples).toHaveLength(1);
  expect(examples[0]).toMatch(/le="0.005".*operation="one"} 1 # \{trace_id="a{32}",span_id="b{16}"\} 0\.003 /);
});

test("whatever methods clients send, a histogram has a bounded number of series", async () => {
  for (let n = 0; n < 1_000; n++) measureHttp({ method: `M${n}`, route: "", operation: "unknown", status: 404 }, measured);
  expect((await linesOf("http_server_request_duration_seconds_count")).filter((line) => line.includes("unknown"))).toEqual([
    expect.stringContaining('http_request_method="_OTHER"'),
  ]);
});

test("what is not known when Prometheus asks is left out, and the rest is answered within its patience", async () => {
  let answer = Promise.resolve(3);
  let asked = 0;
  const ask = () => {
    asked += 1;
    return answer;
  };
  showAsked(ask, [
    { name: "asked_size", help: "A gauge", samples: (value) => [{ value }] },
    { name: "asked_total", help: "A counter", type: "counter", samples: (value) => [{ labels: { kind: "a" }, value }] },
  ]);
  expect(await linesOf("asked_")).toEqual(["asked_size 3", 'asked_total{kind="a"} 3']);
  expect(asked).toBe(1);
  answer = Promise.reject(new Error("no database"));
  expect(await linesOf("asked_")).toEqual([]);

  const slow = Promise.withResolvers<number>();
  answer = slow.promise;
  const began = performance.now();
  const scrapes = await Promise.all([linesOf("asked_"), linesOf("asked_"), linesOf("nodejs_version_info")]);
  expect(performance.now() - began).toBeLessThan(3_000);
  expect(scrapes).toEqual([[], [], [expect.any(String)]]);
  // All of them, and the next, wait for the same answer.
  const next = linesOf("asked_size");
  expect(asked).toBe(3);
  slow.resolve(4);
  expect(await next).toEqual(["asked_size 4"]);
});

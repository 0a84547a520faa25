/** Spans of commands, which send them before they end. */
import { execFile } from "node:child_process";
import { afterAll, beforeAll, beforeEach, expect, test } from "vitest";
import { type Sink, startSink } from "./otlp-sink.ts";

let sink: Sink;
beforeAll(async () => {
  sink = await startSink();
});
afterAll(() => sink.close());
beforeEach(() => {
  sink.spans.length = 0;
  sink.received.length = 0;
});

/** Runs a command whose work is this text, and gives its exit code and what it printed. */
function runCommand(work: string, endpoint = sink.url): Promise<{ code: number; printed: string }> {
  const script = `
    import { inCommand } from "@pm/kit/telemetry/command";
    await inCommand("billing", "look", async () => { ${work} }, (code = 0) => code);
    process.stdout.write("the result");`;
  const env = { PATH: process.env.PATH, OTEL_EXPORTER_OTLP_ENDPOINT: endpoint };
  return new Promise((resolve) => {
    const running = execFile(process.execPath, ["--input-type=module", "--eval", script], { env, cwd: import.meta.dirname }, (_, printed) =>
      resolve({ code: running.exitCode ?? -1, printed }),
    );
  });
}

test.each([
  ["ends well", "", 0, { "process.exit.code": 0 }],
  ["has another exit code", "return 1;", 1, { "process.exit.code": 1, "error.type": "1" }],
  ["throws", "throw Object.assign(new Error('zoe is in the way'), { code: '57P01' });", 1, { "error.type": "57P01" }],
])("a command that %s is a trace, which is sent before it ends", async (_, work, code, attributes) => {
  expect((await runCommand(work)).code).toBe(code);
  expect(sink.spans).toMatchObject([{ name: "command look", kind: 1, parentSpanId: "", isError: code !== 0, attributes }]);
  expect(sink.spans[0]?.resource["service.name"]).toBe("billing");
  expect(Buffer.concat(sink.received).toString()).not.toContain("zoe");
});

test("a command whose collector is away prints its result and nothing else", async () => {
  expect(await runCommand("", "http://127.0.0.1:9")).toEqual({ code: 0, printed: "the result" });
});

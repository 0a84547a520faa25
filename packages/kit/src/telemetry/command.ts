/** Commands that an operator runs. */
import { SpanStatusCode } from "@opentelemetry/api";
import { readEnvironment, telemetryConfig } from "../config.ts";
import { createLogger } from "../log.ts";
import { inTrace, startTracing } from "./tracing.ts";

/**
 * Does the work of a command as one trace, and sends its spans before it returns, if the environment names a collector.
 * The process exits with what `exitCodeOf` gives for the result. A code other than 0 is a failure.
 */
export async function inCommand<Result>(
  service: string,
  name: string,
  work: () => Promise<Result>,
  exitCodeOf: (result: Result) => number = () => 0,
): Promise<Result> {
  const config = { ...readEnvironment(telemetryConfig), OTEL_TRACES_SAMPLER_ARG: 1 };
  let sent: () => unknown = () => undefined;
  const onClose = (_: string, close: () => unknown) => {
    sent = close;
  };
  // Standard output is for what the command prints, which programs read.
  startTracing({ service, config, log: createLogger(service, "warn", process.stderr), lifecycle: { onClose } });
  try {
    return await inTrace(`command ${name}`, {}, async (span) => {
      const result = await work().catch((error: unknown) => {
        span?.setAttribute("process.exit.code", 1);
        throw error;
      });
      const code = exitCodeOf(result);
      process.exitCode = code;
      span?.setAttribute("process.exit.code", code);
      if (code !== 0) span?.setAttribute("error.type", String(code)).setStatus({ code: SpanStatusCode.ERROR });
      return result;
    });
  } finally {
    await sent();
  }
}

/** Commands that an operator runs. */
import { readEnvironment, telemetryConfig } from "../config.ts";
import { createLogger } from "../log.ts";
import { inTrace, startTracing } from "./tracing.ts";

/**
 * Does the work of a command as one trace, and sends its spans before it returns, if the environment names a collector.
 */
export async function inCommand<Result>(service: string, name: string, work: () => Promise<Result>): Promise<Result> {
  const config = { ...readEnvironment(telemetryConfig), OTEL_TRACES_SAMPLER_ARG: 1 };
  let sent: () => unknown = () => undefined;
  const onClose = (_: string, close: () => unknown) => {
    sent = close;
  };
  startTracing({ service, config, log: createLogger(service, "warn"), lifecycle: { onClose } });
  try {
    return await inTrace(`command ${name}`, {}, work);
  } finally {
    await sent();
  }
}

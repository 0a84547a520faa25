/** Structured logs: one JSON object a line on standard output, without personal data. */
import { type DestinationStream, type Logger, type LoggerOptions, pino } from "pino";
import { activeTraceId } from "./telemetry/active.ts";

export type { Logger };

/** How long a line below "warn" waits for others (ms): a write per request costs more than a line is worth. */
const lingerMs = 100;
const warning = 40;

/**
 * Standard output. A warning or error is written immediately, with all lines before it. When the process exits, the
 * rest is written and flushed.
 */
function standardOutput(): DestinationStream {
  const output = pino.destination({ dest: 1, sync: true, minLength: 8 * 1024 });
  let timer: NodeJS.Timeout | undefined;
  const flush = () => {
    clearTimeout(timer);
    timer = undefined;
    output.flush();
  };
  process.on("exit", () => output.flushSync());
  const stream = {
    // Asks pino to set `lastLevel` before it writes.
    [Symbol.for("pino.metadata")]: true,
    lastLevel: 0,
    write(line: string) {
      output.write(line);
      if (stream.lastLevel >= warning) flush();
      else timer ??= setTimeout(flush, lingerMs).unref();
    },
  };
  return stream;
}

/** The logger of a process. It drops fields that could hold secrets or personal data, if one is passed by mistake. */
export function createLogger(service: string, level: string, output: DestinationStream = standardOutput()): Logger {
  const options: LoggerOptions = {
    level,
    base: { service },
    timestamp: () => `,"time":"${new Date().toISOString()}"`,
    formatters: { level: (label) => ({ level: label }) },
    mixin() {
      const traceId = activeTraceId();
      return traceId === undefined ? {} : { traceId };
    },
    redact: {
      paths: [
        "password",
        "token",
        "refreshToken",
        "email",
        "name",
        "*.password",
        "*.token",
        "*.refreshToken",
        "*.email",
        "headers.authorization",
      ],
      remove: true,
    },
    serializers: { err: describeError },
  };
  return pino(options, output);
}

/**
 * What may be logged of an error: class, code, stack and causes. Postgres quotes values of rows and parameters in its
 * messages, so everything in quotes is dropped from those.
 */
function describeError(error: unknown): unknown {
  if (!(error instanceof Error)) return { type: typeof error };
  const isFromPostgres = "severity" in error;
  const withoutValues = (text: string | undefined) => (isFromPostgres ? text?.replace(/"[^"]*"/g, '"…"') : text);
  return {
    type: error.name,
    ...("code" in error && { code: error.code }),
    ...("constraint" in error && { constraint: error.constraint }),
    message: withoutValues(error.message),
    stack: withoutValues(error.stack),
    ...(error.cause !== undefined && { cause: describeError(error.cause) }),
  };
}

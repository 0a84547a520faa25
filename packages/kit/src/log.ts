/** Structured logs: one JSON object a line on standard output, without personal data. */
import { type Logger, pino } from "pino";

export type { Logger };

/** The logger of a process. Fields that could hold secrets or personal data are dropped even where a caller passes them by mistake. */
export function createLogger(service: string, level: string): Logger {
  return pino({
    level,
    base: { service },
    timestamp: () => `,"time":"${new Date().toISOString()}"`,
    formatters: { level: (label) => ({ level: label }) },
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
  });
}

/**
 * What a log may say of an error: class, code, stack and causes. Postgres quotes values of rows and parameters in its
 * messages and details, so what stands in quotes is dropped there.
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

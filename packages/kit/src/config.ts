/** Reads the environment. One message names every mistake, and every variable can come from a file. */
import { readFileSync } from "node:fs";
import { z } from "zod";
import { isTimeZone } from "./calendar.ts";
import "./validation-messages.ts";

type Environment = Record<string, string | undefined>;

/** The path of a file that is read again at each use, so that a rotated secret takes effect. */
const path = z.string().min(1);
const url = z.url({ protocol: /^https?$/ }).transform((value) => value.replace(/\/$/, ""));

/** `key=value,…` with values in percent-encoding, as OpenTelemetry has it. */
const attributes = z.string().transform((text, context) => {
  const pairs = text.split(",").map((pair) => /^\s*([^=\s]+)\s*=\s*([^=\s]*)\s*$/.exec(pair));
  try {
    if (pairs.every((pair) => pair !== null))
      return Object.fromEntries(pairs.map(([, key, value]) => [key, decodeURIComponent(String(value))]));
  } catch {}
  context.addIssue("must be key=value, with commas between and values in percent-encoding");
  return z.NEVER;
});

/** Where spans go, under the names of OpenTelemetry. */
export const telemetryConfig = {
  OTEL_EXPORTER_OTLP_ENDPOINT: url.optional(),
  OTEL_TRACES_SAMPLER_ARG: z.coerce.number().min(0).max(1).default(0.01),
  OTEL_RESOURCE_ATTRIBUTES: attributes.optional(),
};

/** What every service needs. docs/configuration.md explains every variable. */
export const commonConfig = {
  ...telemetryConfig,
  HOST: z.string().default("0.0.0.0"),
  LOG_LEVEL: z.enum(["fatal", "error", "warn", "info", "debug", "trace", "silent"]).default("info"),
  SHUTDOWN_DRAIN_MS: z.coerce.number().int().min(0).max(60_000).default(0),
  SHUTDOWN_GRACE_MS: z.coerce.number().int().min(100).max(300_000).default(10_000),
};

/** The names of checks with commas between. An empty variable counts as missing, so no check at all is `none`. */
const checks = z
  .string()
  .regex(/^(none|[a-z_]+(,[a-z_]+)*)$/, "must be names of checks with commas between, or none")
  .transform((text) => (text === "none" ? [] : text.split(",")));

export const databaseConfig = {
  DATABASE_URL: z.string().regex(/^postgres(ql)?:\/\//, "must start with postgres://"),
  DATABASE_PASSWORD_FILE: path.optional(),
  DATABASE_CA_FILE: path.optional(),
  DATABASE_POOL_SIZE: z.coerce.number().int().min(1).max(100).default(10),
  EXPECTED_CHECKS: checks.optional(),
};

export const kafkaConfig = {
  KAFKA_BROKERS: z
    .string()
    .min(1)
    .transform((value) => value.split(",").map((broker) => broker.trim())),
  KAFKA_CA_FILE: path.optional(),
  KAFKA_CERT_FILE: path.optional(),
  KAFKA_KEY_FILE: path.optional(),
};

/** For verifying access tokens. */
export const tokenConfig = {
  AUTH_ISSUER: z.url().default("http://localhost:4004"),
  AUTH_AUDIENCE: z.string().min(1).default("patient-management"),
};
/** For all services but auth, which get tokens of their own from it. */
export const callerConfig = { ...tokenConfig, AUTH_URL: url, CLIENT_SECRET: z.string().min(16) };

export const serviceUrl = url;
export const cursorKey = z.string().min(32, "must have at least 32 characters");
/**
 * The zone whose days are the clinic's: today, the days of invoices and statements, and those of reports by default.
 */
export const clinicTimeZone = z
  .string()
  .refine(isTimeZone, "must be the name of an IANA time zone, such as Europe/Berlin or UTC; an offset such as +02:00 is none")
  .default("UTC");
const isTrue = z.stringbool({ error: "must be true or false" }).default(true);
/** What the clinic decides about records of patients. */
export const clinicConfig = {
  CLINIC_TIME_ZONE: clinicTimeZone,
  EMAIL_REQUIRED: isTrue,
  EMAIL_UNIQUE: isTrue,
  ADDRESS_REQUIRED: isTrue,
  DATE_OF_BIRTH_PRECISION: z.enum(["day", "year"]).default("day"),
  PHONE_REGION: z
    .string()
    .regex(/^[A-Z]{2}$/, "must be a country by ISO 3166, such as US or CH")
    .default("US"),
};
export const port = (standard: number) => z.coerce.number().int().min(0).max(65_535).default(standard);

/** Variables whose `_FILE` form is a setting of its own: the file is read again at each use, not once here. */
const filesReadLater = new Set(["DATABASE_PASSWORD_FILE", "MIGRATION_DATABASE_PASSWORD_FILE"]);

/**
 * Parses the environment by a schema of its variables. `X_FILE` names a file that has the value of `X`.
 * @throws Error that names every variable that is missing or wrong, without its value
 */
export function readEnvironment<Shape extends z.ZodRawShape>(
  shape: Shape,
  environment: Environment = process.env,
): z.infer<z.ZodObject<Shape>> {
  const values: Environment = {};
  const problems: string[] = [];
  for (const name of Object.keys(shape)) {
    const file = filesReadLater.has(`${name}_FILE`) ? undefined : environment[`${name}_FILE`];
    try {
      // An empty variable counts as missing: shells and charts set variables to empty texts where there is no value.
      values[name] = (file ? readFileSync(file, "utf8").trim() : environment[name]) || undefined;
    } catch {
      problems.push(`${name}_FILE: the file ${file} cannot be read`);
    }
  }
  const parsed = z.object(shape).safeParse(values);
  if (!parsed.success)
    problems.push(
      ...parsed.error.issues.map(
        (issue) => `${issue.path.join(".")}: ${values[String(issue.path[0])] === undefined ? "is missing" : issue.message}`,
      ),
    );
  if (!parsed.success || problems.length > 0) throw new Error(`The environment is wrong:\n  ${problems.join("\n  ")}`);
  return parsed.data;
}

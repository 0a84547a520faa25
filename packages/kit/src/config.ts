/** The environment, read once: every mistake in one message, any variable from a file. */
import { readFileSync } from "node:fs";
import { z } from "zod";
import "./validation-messages.ts";

type Environment = Record<string, string | undefined>;

/** A path. The file is read by whoever uses it, so that a rotated secret is taken up. */
const path = z.string().min(1);
const url = z.url({ protocol: /^https?$/ }).transform((value) => value.replace(/\/$/, ""));

/** What every service needs. See docs/architecture.md. */
export const commonConfig = {
  HOST: z.string().default("0.0.0.0"),
  LOG_LEVEL: z.enum(["fatal", "error", "warn", "info", "debug", "trace", "silent"]).default("info"),
  SHUTDOWN_DRAIN_MS: z.coerce.number().int().min(0).max(60_000).default(0),
  SHUTDOWN_GRACE_MS: z.coerce.number().int().min(100).max(300_000).default(10_000),
};

export const databaseConfig = {
  DATABASE_URL: z.string().regex(/^postgres(ql)?:\/\//, "must start with postgres://"),
  DATABASE_PASSWORD_FILE: path.optional(),
  DATABASE_CA_FILE: path.optional(),
  DATABASE_POOL_SIZE: z.coerce.number().int().min(1).max(100).default(10),
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

/** What it takes to verify access tokens, and for all but auth to get tokens of its own. */
export const tokenConfig = {
  AUTH_ISSUER: z.url().default("http://localhost:4004"),
  AUTH_AUDIENCE: z.string().min(1).default("patient-management"),
};
export const callerConfig = { ...tokenConfig, AUTH_URL: url, CLIENT_SECRET: z.string().min(16) };

export const serviceUrl = url;
export const cursorKey = z.string().min(32, "must have at least 32 characters");
export const port = (standard: number) => z.coerce.number().int().min(0).max(65_535).default(standard);

/** Variables whose `_FILE` form is a setting of its own, not another way to give `X`. */
const filesReadLater = new Set(["DATABASE_PASSWORD_FILE", "MIGRATION_DATABASE_PASSWORD_FILE"]);

/**
 * Parses the environment by a schema of its variables.
 * @throws Error that names every variable that is missing or wrong, without its value.
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
      // An empty variable counts as missing: shells and charts set empty strings where they mean nothing.
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
  if (!parsed.success || problems.length > 0) throw new Error(`The environment is not right:\n  ${problems.join("\n  ")}`);
  return parsed.data;
}

/** For tests: auth as a process of its own on a database of its own, and a client that speaks its JSON. */
import { randomBytes } from "node:crypto";
import { freePort } from "@pm/stack/ports";
import { type Service, startService } from "@pm/stack/services";
import { testDatabase } from "@pm/stack/testing";
import { Pool } from "pg";

export const admin = { email: "admin@example.com", password: "the-first-password" };
export const secrets = { patient: "patient-secret-0123", billing: "billing-secret-0123", analytics: "analytics-secret-0123" };

export type Answer = { status: number; headers: Headers; body: Record<string, unknown> };
export type AuthUnderTest = {
  url: string;
  service: Service;
  /** As the runtime role. */
  pool: Pool;
  /** As the owner role, who may change what the service cannot. */
  owner: Pool;
  env: Record<string, string>;
  /** Sends JSON and reads JSON; `token` goes into the Authorization header. */
  call(
    method: string,
    path: string,
    options?: { body?: unknown; token?: string | undefined; headers?: Record<string, string> },
  ): Promise<Answer>;
  /** Signs in and returns the pair; fails the test where that does not work. */
  login(credentials?: { email: string; password: string; code?: string }): Promise<{ token: string; refreshToken: string }>;
  stop(): Promise<void>;
};

export function clientFor(url: string): AuthUnderTest["call"] {
  return async (method, path, { body, token, headers } = {}) => {
    const response = await fetch(`${url}${path}`, {
      method,
      headers: {
        ...(body !== undefined && { "content-type": "application/json" }),
        ...(token !== undefined && { authorization: `Bearer ${token}` }),
        ...headers,
      },
      ...(body !== undefined && { body: typeof body === "string" ? body : JSON.stringify(body) }),
      redirect: "manual",
    });
    const text = await response.text();
    const isJson = /json/.test(response.headers.get("content-type") ?? "");
    return { status: response.status, headers: response.headers, body: isJson && text !== "" ? JSON.parse(text) : { text } };
  };
}

/** The environment of auth for tests; Kafka is away unless brokers are given, which no request may notice. */
export function authEnvironment(databaseUrl: string, overrides: Record<string, string> = {}): Record<string, string> {
  return {
    HOST: "127.0.0.1",
    LOG_LEVEL: "info",
    DATABASE_URL: databaseUrl,
    KAFKA_BROKERS: "127.0.0.1:1",
    CURSOR_KEY: "c".repeat(32),
    KEY_ENCRYPTION_KEY: Buffer.alloc(32, 7).toString("base64"),
    ADMIN_EMAIL: admin.email,
    ADMIN_PASSWORD: admin.password,
    PATIENT_CLIENT_SECRET: secrets.patient,
    BILLING_CLIENT_SECRET: secrets.billing,
    ANALYTICS_CLIENT_SECRET: secrets.analytics,
    ...overrides,
  };
}

export async function startAuth(overrides: Record<string, string> = {}): Promise<AuthUnderTest> {
  const database = await testDatabase("auth");
  const env = authEnvironment(database.databaseUrl, overrides);
  const service = await startService({ name: "auth", env, port: await freePort() });
  const pool = new Pool({ connectionString: database.databaseUrl, max: 4 });
  const owner = new Pool({ connectionString: database.migrationDatabaseUrl, max: 2 });
  const call = clientFor(service.url);
  return {
    url: service.url,
    service,
    pool,
    owner,
    env,
    call,
    async login(credentials = admin) {
      const { status, body } = await call("POST", "/auth/login", { body: credentials });
      if (status !== 200) throw new Error(`login answered ${status}: ${JSON.stringify(body)}\n${(await service.tail()).join("\n")}`);
      return body as { token: string; refreshToken: string };
    },
    async stop() {
      await service.stop();
      await pool.end();
      await owner.end();
      await database.drop();
    },
  };
}

/** An e-mail address that no other test uses. */
export function freshEmail(): string {
  return `user-${randomBytes(6).toString("hex")}@example.com`;
}

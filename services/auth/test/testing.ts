/** For tests: auth as a process with its own database, a client that sends JSON, and a mail server. */
import { randomBytes } from "node:crypto";
import { once } from "node:events";
import { type AddressInfo, createServer } from "node:net";
import { freePort } from "@pm/stack/programs/ports";
import { type Service, startService } from "@pm/stack/services";
import { testDatabase } from "@pm/stack/testing";
import { Pool } from "pg";

export const admin = { email: "admin@example.com", password: "the-first-password" };
export const secrets = { patient: "patient-secret-0123", billing: "billing-secret-0123", analytics: "analytics-secret-0123" };

type Answer = { status: number; headers: Headers; body: Record<string, unknown> };
export type AuthUnderTest = {
  url: string;
  service: Service;
  /** Connects as the runtime role. */
  pool: Pool;
  /** Connects as the owner role, which may change what the service cannot. */
  owner: Pool;
  env: Record<string, string>;
  /** Every line that the service has written. */
  logs: string[];
  /** Sends JSON and reads JSON; `token` goes into the Authorization header. */
  call(
    method: string,
    path: string,
    options?: { body?: unknown; token?: string | undefined; headers?: Record<string, string> },
  ): Promise<Answer>;
  /** Signs in and returns the tokens. Throws if the answer is not 200. */
  login(credentials?: { email: string; password: string; code?: string }): Promise<{ token: string; refreshToken: string }>;
  stop(): Promise<void>;
};

/** Another replica: a second process with the same database. */
export async function startReplica(auth: AuthUnderTest, overrides: Record<string, string> = {}): Promise<Service> {
  return startService({ name: "auth", env: { ...auth.env, ...overrides }, port: await freePort() });
}

/** The header with which the gateway passes on a request of this client. */
export const from = (address: string) => ({ "x-envoy-external-address": address });

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

/** The environment of auth for tests. Without brokers, Kafka is away, which no request may notice. */
function authEnvironment(databaseUrl: string, overrides: Record<string, string> = {}): Record<string, string> {
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
  const logs: string[] = [];
  const service = await startService({ name: "auth", env, port: await freePort(), onLog: (line) => void logs.push(line) });
  const pool = new Pool({ connectionString: database.databaseUrl, max: 4 });
  const owner = new Pool({ connectionString: database.migrationDatabaseUrl, max: 2 });
  // A pool reports connections that are closed by the end of their database. Nobody waits for them any more.
  for (const each of [pool, owner]) each.on("error", () => undefined);
  const call = clientFor(service.url);
  return {
    url: service.url,
    service,
    pool,
    owner,
    env,
    logs,
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

export type Mailbox = {
  /** For MAIL_URL. */
  url: string;
  /** Every mail that arrived, the oldest first. */
  mails: { to: string; subject: string; text: string }[];
  /** Waits for a mail to an address and returns the token in it. */
  token(to: string, subject: RegExp): Promise<string>;
  close(): void;
};

/** A mail server that keeps its mails. It has as much of SMTP (RFC 5321) as a client needs to deliver. */
export async function startMailbox(): Promise<Mailbox> {
  const mails: Mailbox["mails"] = [];
  const server = createServer((socket) => {
    socket.setEncoding("latin1").write("220 mailbox\r\n");
    let [buffer, to, body] = ["", "", undefined as string | undefined];
    socket.on("data", (chunk: string) => {
      buffer += chunk;
      for (let end = buffer.indexOf("\r\n"); end !== -1; end = buffer.indexOf("\r\n")) {
        const line = buffer.slice(0, end);
        buffer = buffer.slice(end + 2);
        if (body === undefined) {
          to = /^RCPT TO:<([^>]*)>/i.exec(line)?.[1] ?? to;
          if (line === "DATA") body = "";
          socket.write(line === "DATA" ? "354 go on\r\n" : line === "QUIT" ? "221 bye\r\n" : "250 ok\r\n");
        } else if (line === ".") {
          mails.push(readMail(to, body));
          body = undefined;
          socket.write("250 ok\r\n");
        } else body += `${line}\n`;
      }
    });
    socket.on("error", () => socket.destroy());
  });
  await once(server.listen(0, "127.0.0.1"), "listening");
  return {
    url: `smtp://127.0.0.1:${(server.address() as AddressInfo).port}`,
    mails,
    async token(to, subject) {
      const deadline = Date.now() + 10_000;
      for (;;) {
        const mail = mails.findLast((one) => one.to === to && subject.test(one.subject));
        const token = /(?<![\w-])([\w-]{43})(?![\w-])/.exec(mail?.text ?? "")?.[1];
        if (token !== undefined) return token;
        if (Date.now() > deadline) throw new Error(`no mail to ${to} about ${subject}; there are ${JSON.stringify(mails)}`);
        await new Promise((resolve) => setTimeout(resolve, 10));
      }
    },
    close: () => server.close(),
  };
}

function readMail(to: string, raw: string): Mailbox["mails"][number] {
  const [head = "", ...rest] = raw.split("\n\n");
  const unfolded = rest.join("\n\n").replaceAll("=\n", "");
  const text = unfolded.replace(/=([0-9A-F]{2})/g, (_, hex: string) => String.fromCharCode(Number.parseInt(hex, 16)));
  return { to, subject: /^Subject: (.*)$/m.exec(head)?.[1] ?? "", text: /quoted-printable/i.test(head) ? text : rest.join("\n\n") };
}

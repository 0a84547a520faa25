/** A log-out works everywhere, key rotations go unnoticed, and no log contains a secret. All through the gateway. */
import { mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { query } from "@pm/stack/native/postgres";
import { type Platform, startPlatform } from "@pm/stack/platform";
import { decodeJwt, decodeProtectedHeader } from "jose";
import { Secret, TOTP } from "otpauth";
import { afterAll, beforeAll, expect, test } from "vitest";
import { type Mailbox, startMailbox } from "../../services/auth/test/testing.ts";

type Pair = { token: string; refreshToken: string };
type Answer = { status: number; body: Record<string, unknown> };

let platform: Platform;
let mailbox: Mailbox;
const dataDir = mkdtempSync(join(tmpdir(), "pm-identity-"));
/** What no log may contain. */
const secrets = new Set<string>();

beforeAll(async () => {
  mailbox = await startMailbox();
  platform = await startPlatform({
    dataDir,
    durable: false,
    env: { auth: { SIGNUP_ROLE: "user", MAIL_URL: mailbox.url, KEY_PUBLISH_SECONDS: "8" } },
    gateway: { JWKS_CACHE_SECONDS: "1", LOGIN_RATE_PER_SECOND: "1000", REFRESH_RATE_PER_SECOND: "1000", SIGNUP_RATE_PER_SECOND: "1000" },
  });
  for (const secret of Object.values(platform.secrets.clientSecrets)) secrets.add(secret);
  for (const secret of [platform.admin.password, platform.secrets.cursorKey, platform.secrets.keyEncryptionKey]) secrets.add(secret);
});
afterAll(async () => {
  await platform?.stop();
  mailbox.close();
  rmSync(dataDir, { recursive: true, force: true });
});

async function call(method: string, path: string, options: { token?: string; body?: unknown } = {}): Promise<Answer> {
  const { token, body } = options;
  const response = await fetch(`${platform.gatewayUrl}${path}`, {
    method,
    headers: {
      ...(token !== undefined && { authorization: `Bearer ${token}` }),
      ...(body !== undefined && { "content-type": "application/json" }),
    },
    ...(body !== undefined && { body: JSON.stringify(body) }),
    signal: AbortSignal.timeout(30_000),
  });
  const text = await response.text();
  return { status: response.status, body: /json/.test(response.headers.get("content-type") ?? "") && text !== "" ? JSON.parse(text) : {} };
}

/** Adds the tokens to what no log may contain. */
function keep(pair: Answer): Pair {
  expect(pair.status, JSON.stringify(pair.body)).toBe(200);
  const { token, refreshToken } = pair.body as Pair;
  secrets.add(token).add(refreshToken);
  return { token, refreshToken };
}
const logIn = async (credentials: { email: string; password: string; code?: string } = platform.admin) =>
  keep(await call("POST", "/auth/login", { body: credentials }));
const refresh = async (refreshToken: string) => keep(await call("POST", "/auth/refresh", { body: { refreshToken } }));

test("whoever reads the discovery document can reach every address in it", async () => {
  const { status, body } = await call("GET", "/.well-known/openid-configuration");
  expect([status, body.issuer]).toEqual([200, platform.gatewayUrl]);
  const addresses = Object.entries(body).filter(([name]) => /_(endpoint|uri)$/.test(name));
  expect(addresses.map(([name]) => name).sort()).toEqual(["jwks_uri", "token_endpoint", "userinfo_endpoint"]);
  const { token } = await logIn();
  for (const [name, address] of addresses) {
    const path = String(address).replace(platform.gatewayUrl, "");
    const [method, expected] = name === "token_endpoint" ? ["POST", 400] : ["GET", 200];
    expect([name, path[0], (await call(method, path, { token })).status]).toEqual([name, "/", expected]);
  }
});

/** One read of every service. Any answer except 401 means that the service accepted the token. */
const reads: Record<string, (token: string) => Promise<Answer>> = {
  auth: (token) => call("GET", "/auth/validate", { token }),
  patient: (token) => call("GET", "/patients?limit=1", { token }),
  billing: (token) =>
    call("POST", "/billing.v1.BillingService/GetBillingAccount", { token, body: { patientId: "01890000-0000-7000-8000-000000000000" } }),
  analytics: (token) => call("GET", "/analytics/patients?interval=day", { token }),
};

/** Returns how many milliseconds it takes until a service refuses a token. */
async function untilRefused(read: (token: string) => Promise<Answer>, token: string, since: number, limitMs: number): Promise<number> {
  for (;;) {
    const { status } = await read(token);
    const elapsed = performance.now() - since;
    if (status === 401) return elapsed;
    if (elapsed > limitMs) throw new Error(`still ${status} after ${Math.round(elapsed)} ms`);
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
}

test("a token is refused by every service in under a second after logout (p99)", { timeout: 300_000 }, async () => {
  const rounds = 50;
  const times: Record<string, number[]> = { auth: [], patient: [], billing: [], analytics: [] };
  for (let round = 0; round < rounds; round++) {
    const { token } = await logIn();
    for (const [service, read] of Object.entries(reads)) expect((await read(token)).status, service).not.toBe(401);
    const since = performance.now();
    expect((await call("POST", "/auth/logout", { token })).status).toBe(204);
    await Promise.all(
      Object.entries(reads).map(async ([service, read]) => times[service]?.push(await untilRefused(read, token, since, 10_000))),
    );
  }
  for (const [service, values] of Object.entries(times)) {
    const sorted = values.toSorted((a, b) => a - b);
    const at = (share: number) => Math.round(sorted[Math.ceil(sorted.length * share) - 1] ?? Number.NaN);
    process.stdout.write(`revocation through the gateway, ${service}: p50 ${at(0.5)} ms, p99 ${at(0.99)} ms (${rounds} logouts)\n`);
    expect(at(0.99), service).toBeLessThan(1_000);
  }
});

test("what an administrator does to an account holds in every service at once", async () => {
  const admin = await logIn();
  const email = `Zebulon.Quist@Example.com`;
  const password = "vexing-quartz-jamboree";
  for (const secret of [email, email.toLowerCase(), password, "Zebulon Quist"]) secrets.add(secret);
  const created = await call("POST", "/auth/users", {
    token: admin.token,
    body: { email, name: "Zebulon Quist", roles: ["admin"], password },
  });
  expect(created.status).toBe(201);
  const ways = {
    disable: async () => {
      const answer = await call("POST", `/auth/users/${created.body.id}:disable`, { token: admin.token });
      expect(answer.status).toBe(200);
    },
    endSessions: async () => {
      expect((await call("POST", `/auth/users/${created.body.id}:endSessions`, { token: admin.token })).body).toEqual({ ended: 1 });
    },
    roles: async () => {
      await call("PATCH", `/auth/users/${created.body.id}`, { token: admin.token, body: { roles: ["billing"] } });
      await call("PATCH", `/auth/users/${created.body.id}`, { token: admin.token, body: { roles: ["admin"] } });
    },
  };
  for (const way of Object.values(ways)) {
    await call("POST", `/auth/users/${created.body.id}:enable`, { token: admin.token });
    const { token } = await logIn({ email, password });
    await reads.patient?.(token);
    const since = performance.now();
    await way();
    await Promise.all(Object.values(reads).map((read) => untilRefused(read, token, since, 5_000)));
  }
});

test("two rotations of the signing key under load: not one 401", { timeout: 180_000 }, async () => {
  const kids = new Set<string>();
  const refused: string[] = [];
  let asked = 0;
  let running = true;
  const clients = Array.from({ length: 4 }, async () => {
    let pair = await logIn();
    while (running) {
      for (const [service, read] of Object.entries(reads)) {
        const { status } = await read(pair.token);
        asked++;
        if (status === 401) refused.push(service);
      }
      pair = await refresh(pair.refreshToken);
      kids.add(String(decodeProtectedHeader(pair.token).kid));
    }
  });
  const { token } = await logIn();
  for (let rotation = 0; rotation < 2; rotation++) {
    const next = await call("POST", "/auth/keys:rotate", { token });
    expect(next.status).toBe(202);
    await expect.poll(() => kids.has(String(next.body.kid)), { timeout: 60_000, interval: 100 }).toBe(true);
  }
  running = false;
  await Promise.all(clients);
  process.stdout.write(`two rotations under load: ${asked} requests with ${kids.size} keys, ${refused.length} refused\n`);
  expect(kids.size).toBe(3);
  expect(refused).toEqual([]);
});

test("a service that starts while Kafka is down has forgotten nobody who is out, and hears of more", { timeout: 180_000 }, async () => {
  const [before, during, stays] = [await logIn(), await logIn(), await logIn()];
  await call("POST", "/auth/logout", { token: before.token });
  await platform.kafka.kill();
  try {
    await platform.services.patient.restart();
    const read = reads.patient as (token: string) => Promise<Answer>;
    await expect.poll(async () => (await read(stays.token)).status, { timeout: 20_000 }).toBe(200);
    expect((await read(before.token)).status).toBe(401);
    const since = performance.now();
    await call("POST", "/auth/logout", { token: during.token });
    const late = await untilRefused(read, during.token, since, 15_000);
    process.stdout.write(`revocation while Kafka is down: ${Math.round(late)} ms\n`);
  } finally {
    await platform.kafka.start();
  }
});

test("no password, token, code, e-mail address or name of this run is in any log", { timeout: 120_000 }, async () => {
  const email = "ottoline.featherstone@example.com";
  const name = "Ottoline Featherstone";
  const password = "marmalade-skyhook-42";
  const patient = {
    name: "Balthazar Pumblechook",
    email: "balthazar.pumblechook@example.com",
    address: "7 Thimbleberry Lane",
    dateOfBirth: "1971-02-03",
  };
  for (const secret of [email, name, password, patient.name, patient.email, patient.address]) secrets.add(secret);
  // As if every statement were slow, because slow ones are logged.
  await query(platform.postgres.url, async (client) => {
    await client.query("alter system set log_min_duration_statement = 0");
    await client.query("select pg_reload_conf()");
  });
  await call("POST", "/auth/signup", { body: { email, name, password } });
  const link = await mailbox.token(email, /Confirm your account/);
  secrets.add(link);
  expect((await call("POST", "/auth/invites/accept", { body: { token: link, password } })).status).toBe(204);
  // Failures are where secrets slip into logs.
  await call("POST", "/auth/login", { body: { email, password: `${password}-wrong` } });
  await call("POST", "/auth/login", { body: { email: password, password: email } });
  await call("POST", "/auth/signup", { body: { email, name, password } });
  await call("POST", "/auth/refresh", { body: { refreshToken: `${password}` } });
  await call("GET", `/auth/invites/accept?token=${link}`);
  const { token } = await logIn({ email, password });
  const factor = await call("POST", "/auth/mfa/totp", { token, body: { password } });
  secrets.add(String(factor.body.secret));
  const code = new TOTP({ secret: Secret.fromBase32(String(factor.body.secret)) }).generate();
  const confirmed = await call("POST", "/auth/mfa/totp/confirm", { token, body: { code } });
  for (const recoveryCode of confirmed.body.recoveryCodes as string[]) secrets.add(recoveryCode);
  for (let i = 0; i < 2; i++) await call("POST", "/patients", { token, body: patient });
  await call("POST", "/patients", { token, body: { ...patient, dateOfBirth: "never" } });
  await call("GET", `/patients?q=${encodeURIComponent(patient.name)}`, { token });
  await call("GET", `/auth/users?q=${encodeURIComponent(name)}`, { token: (await logIn()).token });
  expect(decodeJwt(token).sub).toBeTruthy();
  // No operation violates this constraint, but a defect could.
  const database = platform.postgres.url.replace(/\/postgres$/, "/patient");
  const copy = "select (jsonb_populate_record(p, jsonb_build_object('id', gen_random_uuid()))).* from patients p where email = $1";
  await expect(query(database, (client) => client.query(`insert into patients ${copy}`, [patient.email]))).rejects.toThrow("duplicate key");

  const logs = join(dataDir, "logs");
  const files = readdirSync(logs).filter((file) => file.endsWith(".log"));
  expect(files.length).toBeGreaterThanOrEqual(5);
  const ofPostgres = readFileSync(join(logs, "postgres.log"), "utf8");
  for (const logged of ["duplicate key value", "insert into patients", "duration:"]) expect(ofPostgres).toContain(logged);
  for (const file of files) {
    const text = readFileSync(join(logs, file), "utf8");
    expect(text, file).not.toBe("");
    const found = [...secrets].filter((secret) => text.includes(secret) || text.includes(encodeURIComponent(secret)));
    expect(found, file).toEqual([]);
  }
});

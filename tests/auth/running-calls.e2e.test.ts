/** Running imports, exports and watches end with the caller's session, not with the token. All through the gateway. */
import { randomUUID } from "node:crypto";
import { once } from "node:events";
import { mkdtempSync, rmSync } from "node:fs";
import { type ClientRequest, type IncomingMessage, request } from "node:http";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { Code, ConnectError, createClient } from "@connectrpc/connect";
import { createGrpcTransport } from "@connectrpc/connect-node";
import { BillingService } from "@pm/proto/billing/v1/billing";
import { query } from "@pm/stack/native/postgres";
import { type Platform, startPlatform } from "@pm/stack/platform";
import { afterAll, beforeAll, expect, test } from "vitest";
import { clientOf, logIn, type PatientAnswer, person } from "../e2e/client.ts";
import { register, tokenOf } from "../oauth/clients.ts";

let platform: Platform;
const dataDir = mkdtempSync(join(tmpdir(), "pm-running-"));
const tokenSeconds = 10;

beforeAll(async () => {
  platform = await startPlatform({
    dataDir,
    durable: false,
    env: { auth: { ACCESS_TOKEN_SECONDS: String(tokenSeconds) } },
    gateway: { LOGIN_RATE_PER_SECOND: "1000" },
  });
});
afterAll(async () => {
  await platform?.stop();
  rmSync(dataDir, { recursive: true, force: true });
});

const password = "vexing-quartz-jamboree";
async function newUser(): Promise<{ id: string; email: string; password: string }> {
  const email = `${randomUUID()}@example.com`;
  const answer = await (await logIn(platform)).send("POST", "/auth/users", { email, name: "Zebulon Quist", roles: ["admin"], password });
  expect(answer.status, answer.text).toBe(201);
  return { id: (answer.body as { id: string }).id, email, password };
}

/**
 * Lines of patients. Their addresses begin with a unique word, so that they can be counted. Lines are padded with
 * spaces, because nothing is stored before the first MiB is examined.
 */
const linesOf = (word: string, from: number, count: number, street = "12 Elm Street") =>
  Array.from(
    { length: count },
    (_, index) =>
      `${JSON.stringify({ name: "Ada Run", email: `${word}.${from + index}@example.com`, address: street, dateOfBirth: "1985-06-15" }).padEnd(800)}\n`,
  ).join("");
const stored = async (word: string) =>
  (
    await query(platform.databases.patient.migrationDatabaseUrl, (client) =>
      client.query("select count(*)::int as n from patients where email like $1", [`${word}.%`]),
    )
  ).rows[0].n as number;

type Import = { call: ClientRequest; answer: Promise<{ status: number; text: string; at: number }> };
function beginImport(token: string, key: string): Import {
  const call = request(`${platform.gatewayUrl}/patients:import`, {
    method: "POST",
    headers: { authorization: `Bearer ${token}`, "content-type": "application/x-ndjson", "idempotency-key": key },
  });
  // Sending after the answer breaks the connection. That is intended.
  call.on("error", () => undefined);
  const answer = once(call, "response").then(async ([response]: IncomingMessage[]) => {
    const at = performance.now();
    let text = "";
    response?.setEncoding("utf8");
    response?.on("error", () => undefined);
    response?.on("data", (part: string) => (text += part));
    await new Promise((resolve) => response?.once("close", resolve));
    return { status: response?.statusCode ?? 0, text, at };
  });
  return { call, answer };
}

test("an import outlives its token, ends within a second of its account being disabled, and can be finished afterwards", {
  timeout: 180_000,
}, async () => {
  const user = await newUser();
  const [word, key] = [`w${randomUUID()}`, randomUUID()];
  const { token } = await logIn(platform, user);
  const { call, answer } = beginImport(token, key);
  const started = performance.now();
  let file = "";
  const write = (lines: string) => {
    file += lines;
    call.write(lines);
  };
  write(linesOf(word, 0, 2_500));
  await expect.poll(() => stored(word), { timeout: 20_000 }).toBe(2_000);
  let sent = 2_500;
  const trickle = setInterval(() => write(linesOf(word, sent++, 1)), 100);
  while (performance.now() - started < (tokenSeconds + 2) * 1_000) await delay(100);
  expect((await clientOf(platform.gatewayUrl, token).get("/patients?limit=1")).status).toBe(401);
  write(linesOf(word, 1_000_000, 600));
  await expect.poll(() => stored(word), { timeout: 5_000 }).toBe(3_000);

  const admin = await logIn(platform);
  const since = performance.now();
  expect((await admin.send("POST", `/auth/users/${user.id}:disable`)).status).toBe(200);
  const disabled = performance.now();
  const { status, text, at } = await answer;
  process.stdout.write(`an import ended ${Math.round(at - since)} ms after its account was to be disabled\n`);
  expect([status, JSON.parse(text).code]).toEqual([401, "unauthenticated"]);
  expect(at - disabled).toBeLessThan(1_000);
  write(linesOf(word, 2_000_000, 2_000));
  await delay(1_500);
  clearInterval(trickle);
  call.destroy();
  expect(await stored(word)).toBe(3_000);

  await (await logIn(platform)).send("POST", `/auth/users/${user.id}:enable`);
  const again = await logIn(platform, user);
  const headers = { "content-type": "application/x-ndjson", "idempotency-key": key };
  const whole = await again.send("POST", "/patients:import", file, headers);
  const count = file.split("\n").length - 1;
  expect(whole.body).toMatchObject({ lines: count, created: count, failed: 0 });
  expect(await stored(word)).toBe(count);
});

test("a lost role ends an import as disabling does", async () => {
  const user = await newUser();
  const word = `w${randomUUID()}`;
  const { call, answer } = beginImport((await logIn(platform, user)).token, randomUUID());
  call.write(linesOf(word, 0, 1_500));
  await expect.poll(() => stored(word), { timeout: 20_000 }).toBe(1_000);
  const admin = await logIn(platform);
  expect((await admin.send("PATCH", `/auth/users/${user.id}`, { roles: ["analyst"] })).status).toBe(200);
  const since = performance.now();
  const { status, at } = await answer;
  expect([status, at - since < 1_000]).toEqual([401, true]);
  call.destroy();
  expect(await stored(word)).toBe(1_000);
});

test("the import of an API client outlives its token, and ends within a second of the client being disabled", async () => {
  const client = await register(await logIn(platform), { scopes: ["patient:read", "patient:write"] });
  const word = `w${randomUUID()}`;
  const { call, answer } = beginImport((await tokenOf(platform, client)).token, randomUUID());
  call.write(linesOf(word, 0, 1_500));
  await expect.poll(() => stored(word), { timeout: 20_000 }).toBe(1_000);
  await delay((tokenSeconds + 2) * 1_000);
  call.write(linesOf(word, 2_000, 600));
  await expect.poll(() => stored(word), { timeout: 5_000 }).toBe(2_000);
  const admin = await logIn(platform);
  expect((await admin.send("POST", `/auth/clients/${client.id}:disable`)).status).toBe(200);
  const since = performance.now();
  const { status, text, at } = await answer;
  expect([status, JSON.parse(text).code, at - since < 1_000]).toEqual([401, "unauthenticated", true]);
  call.destroy();
  expect(await stored(word)).toBe(2_000);
});

test("an export that nobody reads any further and a watch end with the session, and look like it", { timeout: 180_000 }, async () => {
  const user = await newUser();
  const { token } = await logIn(platform, user);
  const word = `w${randomUUID()}`;
  const imported = beginImport(token, randomUUID());
  // More than fits into the buffers between the database and the client.
  imported.call.end(linesOf(word, 0, 20_000, "x".repeat(490)));
  expect(JSON.parse((await imported.answer).text)).toMatchObject({ created: 20_000 });

  const authorization = `Bearer ${(await logIn(platform, user)).token}`;
  const billing = createClient(BillingService, createGrpcTransport({ baseUrl: platform.gatewayUrl }));
  const headers = { authorization };
  const { id: patientId } = (await clientOf(platform.gatewayUrl, authorization.slice("Bearer ".length)).send("POST", "/patients", person()))
    .body as PatientAnswer;
  const { accountId } = await billing.createBillingAccount({ patientId, name: "Ada", email: "ada@example.com" }, { headers });
  const watch = billing.watchAccount({ accountId }, { headers })[Symbol.asyncIterator]();
  await watch.next();
  const watchEnded = watch.next().then(
    () => ({ code: undefined, at: performance.now() }),
    (error: unknown) => ({ code: ConnectError.from(error).code, at: performance.now() }),
  );
  const call = request(`${platform.gatewayUrl}/patients:export`, { headers }).end();
  const [response] = (await once(call, "response")) as [IncomingMessage];
  await once(response, "readable");
  await delay(500);

  const admin = await logIn(platform);
  expect((await admin.send("POST", `/auth/users/${user.id}:endSessions`)).status).toBe(200);
  const since = performance.now();
  const { code, at } = await watchEnded;
  expect([code, at - since < 1_000]).toEqual([Code.Unauthenticated, true]);
  await delay(1_000 - (performance.now() - since));
  let bytes = 0;
  response.on("data", (part: Buffer) => (bytes += part.length));
  const resumed = performance.now();
  const outcome = await new Promise((resolve) => response.once("end", () => resolve("whole")).once("error", () => resolve("cut off")));
  process.stdout.write(`export: ${bytes} bytes were on their way when the session ended\n`);
  expect(outcome).toBe("cut off");
  expect(performance.now() - resumed).toBeLessThan(1_000);
  expect(bytes).toBeLessThan(20_000 * 800);
});

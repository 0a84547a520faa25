/** A running platform with a patient, an account and a user, for tests that carry out every operation. */
import { randomUUID } from "node:crypto";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { Role } from "@pm/kit/auth/access";
import { query } from "@pm/stack/native/postgres";
import { type Platform, startPlatform } from "@pm/stack/platform";
import { Secret, TOTP } from "otpauth";
import { vi } from "vitest";
import { type Mailbox, startMailbox } from "../../services/auth/test/testing.ts";
import { type Client, logIn, person } from "./client.ts";

/** A request of an administrator, or of the owner of `token`. Objects are sent as JSON. */
export type Call = { method: string; path: string; body?: unknown; headers?: Record<string, string>; token?: string };

type User = { id: string; email: string; password: string; token: string };

export let platform: Platform;
export let mailbox: Mailbox;
export let user: User;
export let auditor: User;
export let ids: Record<"patient" | "account" | "payment" | "invoice" | "team", string>;
let admin: Client;
const dataDir = mkdtempSync(join(tmpdir(), "pm-scene-"));

export const password = `a long enough passphrase ${randomUUID()}`;
export const euros = { currencyCode: "EUR", minorUnits: "1000" };
export const freshEmail = () => `somebody-${randomUUID()}@example.com`;
export const get = (path: string): Call => ({ method: "GET", path });
export const post = (path: string, body?: unknown): Call => ({ method: "POST", path, body });
export const rpc = (name: string, body: object): Call => post(`/billing.v1.BillingService/${name}`, body);
export const mutation = (name: string, body: () => object) => () => rpc(name, { ...body(), requestId: randomUUID() });
/** What the user does with their own account. */
export const own = (call: Call): Call => ({ ...call, token: user.token });

export async function startScene(): Promise<void> {
  mailbox = await startMailbox();
  platform = await startPlatform({ dataDir, durable: false, env: { auth: { MAIL_URL: mailbox.url } } });
  admin = await logIn(platform);
  user = await newUser();
  auditor = await newUser("auditor");
  const { id: patient } = await done(post("/patients", person()));
  const opened = () => done(rpc("GetBillingAccount", { patientId: patient }));
  const { accountId: account } = (await vi.waitFor(opened, { timeout: 10_000, interval: 200 })).account;
  await charge(account);
  const paid = { accountId: account, amount: euros, method: "PAYMENT_METHOD_CARD", requestId: randomUUID() };
  const { payment } = await done(rpc("RecordPayment", paid));
  const { invoice } = await done(rpc("CreateInvoice", { accountId: account, requestId: randomUUID() }));
  const { id: team } = await done(post("/auth/teams", { name: "Ward 3" }));
  ids = { patient, account, payment: payment.paymentId, invoice: invoice.invoiceId, team };
}

export async function stopScene(): Promise<void> {
  await platform?.stop();
  mailbox?.close();
  rmSync(dataDir, { recursive: true, force: true });
}

/** Sends a call, and gives its status and the beginning of its answer: some answers never end. */
export async function send(base: string, call: Call): Promise<{ status: number; text: string; headers: Headers }> {
  const { method, path, body, headers, token = admin.token } = call;
  const isRaw = typeof body === "string" || body instanceof Uint8Array;
  const response = await fetch(`${base}${path}`, {
    method,
    headers: { authorization: `Bearer ${token}`, ...(body !== undefined && { "content-type": "application/json" }), ...headers },
    ...(body !== undefined && { body: isRaw ? (body as string) : JSON.stringify(body) }),
    redirect: "manual",
    signal: AbortSignal.timeout(30_000),
  });
  const reader = response.body?.getReader();
  const { value } = (await reader?.read()) ?? {};
  await reader?.cancel();
  return { status: response.status, text: Buffer.from(value ?? []).toString(), headers: response.headers };
}

/** Carries out a call through the gateway, and gives the body of its answer. */
export async function done(call: Call): Promise<ReturnType<typeof JSON.parse>> {
  const { status, text } = await send(platform.gatewayUrl, call);
  if (status >= 300) throw new Error(`${call.method} ${call.path} answered ${status}: ${text}`);
  return text === "" ? undefined : JSON.parse(text);
}

export async function newUser(role: Role = "user"): Promise<User> {
  const credentials = { email: freshEmail(), password };
  const { id } = await done(post("/auth/users", { ...credentials, roles: [role] }));
  return { id, ...credentials, token: await tokenOf(credentials) };
}

/** The id of a new user who has registered a patient. */
export async function ownerOfPatient(): Promise<string> {
  const { id, token } = await newUser();
  await done({ ...post("/patients", person()), token });
  return id;
}

/** The id of a pair of the work list: somebody who is registered twice. */
export async function newPair(): Promise<string> {
  const somebody = { ...person(), lastName: undefined, name: `Quill ${randomUUID().replaceAll("-", "").replaceAll(/\d/g, "x")}` };
  const registered = await Promise.all([freshEmail(), freshEmail()].map((email) => done(post("/patients", { ...somebody, email }))));
  const ids = registered.map(({ id }) => id);
  const text = "select id from duplicate_pairs where first_id = any($1::uuid[]) and second_id = any($1::uuid[])";
  const pair = () =>
    query(platform.databases.patient.databaseUrl, async (client) => (await client.query<{ id: string }>(text, [ids])).rows[0]);
  return (await vi.waitUntil(pair, { timeout: 20_000, interval: 500 })).id;
}

/** The call that puts a new user into the team. */
export const newMember = async (): Promise<Call> => ({ method: "PUT", path: `/auth/teams/${ids.team}/members/${(await newUser()).id}` });

export async function tokenOf(credentials: { email: string; password: string }): Promise<string> {
  return (await done(post("/auth/login", credentials))).token;
}

export const charge = (accountId: string) =>
  done(rpc("CreateCharge", { accountId, amount: euros, description: "Visit", requestId: randomUUID() }));

/** An issued invoice of a new charge: its id. */
export async function issuedInvoice(): Promise<string> {
  const { charge: open } = await charge(ids.account);
  const request = { accountId: ids.account, chargeIds: [open.chargeId], issue: true, requestId: randomUUID() };
  return (await done(rpc("CreateInvoice", request))).invoice.invoiceId;
}

/** A credit note against a new invoice: its id. */
export async function newCreditNote(): Promise<string> {
  const request = { invoiceId: await issuedInvoice(), reason: "Mistake", requestId: randomUUID() };
  return (await done(rpc("CreateCreditNote", request))).creditNote.creditNoteId;
}

/** A new payer: its id. */
export async function newPayer(): Promise<string> {
  const request = { kind: "PAYER_KIND_PERSON", name: "Byron", requestId: randomUUID() };
  return (await done(rpc("CreatePayer", request))).payer.payerId;
}

/** A new user with the secret of an authenticator app: the call that takes it into use. */
export async function enrolled(): Promise<Call> {
  const { token } = await newUser();
  const { secret } = await done({ ...post("/auth/mfa/totp", { password }), token });
  return { ...post("/auth/mfa/totp/confirm", { code: new TOTP({ secret: Secret.fromBase32(secret) }).generate() }), token };
}

/** The token of an administrator who has logged in with a second factor. */
async function eraser(): Promise<string> {
  const credentials = { email: freshEmail(), password };
  await done(post("/auth/users", { ...credentials, roles: ["admin"] }));
  const { token, refreshToken } = await done(post("/auth/login", credentials));
  const { secret } = await done({ ...post("/auth/mfa/totp", { password }), token });
  const code = new TOTP({ secret: Secret.fromBase32(secret) }).generate();
  await done({ ...post("/auth/mfa/totp/confirm", { code }), token });
  return (await done(post("/auth/refresh", { refreshToken }))).token;
}

/** The call that erases a new patient, but for the record, which is too young. */
export async function erasure(): Promise<Call & { patientId: string }> {
  const { id } = await done(post("/patients", person()));
  const status = async () => (await done(get(`/patients/${id}`))).billing.status;
  await vi.waitUntil(async () => (await status()) === "active", { timeout: 10_000, interval: 200 });
  return { ...post(`/patients/${id}:erase`, { reason: "They asked", restrict: true }), token: await eraser(), patientId: id };
}

/** A call that a new user proves by their second factor. */
export async function withSecondFactor(path: string): Promise<Call> {
  const confirm = await enrolled();
  const { recoveryCodes } = await done(confirm);
  return { ...confirm, path, body: { password, code: recoveryCodes[0] } };
}

/** The id of a dead letter of analytics, of an event that cannot be read. */
export function deadLetter(): Promise<string> {
  const text = `insert into dead_letters (consumer_group, event_id, topic, partition, "offset", key, type, source, event_time, traceparent, payload, reason, tries)
    values ('analytics', $1::uuid, 'patient.v1', 0, 0, $1::text, 'patient.v1.registered', '/test', now(), '', '', 'it cannot be read', 5) returning id`;
  return query(platform.databases.analytics.migrationDatabaseUrl, async (client) => {
    const { rows } = await client.query<{ id: string }>(text, [randomUUID()]);
    return String(rows[0]?.id);
  });
}

/** Signs in at the dashboard. */
export async function dashboardCookie(): Promise<string> {
  const { headers } = await send(platform.gatewayUrl, {
    ...post("/analytics/dashboard/login", new URLSearchParams(platform.admin).toString()),
    headers: { "content-type": "application/x-www-form-urlencoded", "sec-fetch-site": "same-origin" },
  });
  return headers.get("set-cookie")?.split(";")[0] ?? "";
}

/** A call of a method that streams. */
export function stream(name: string, body: object): Call {
  const message = Buffer.from(JSON.stringify(body));
  const frame = Buffer.alloc(5 + message.length);
  frame.writeUInt32BE(message.length, 1);
  message.copy(frame, 5);
  return { ...rpc(name, frame), headers: { "content-type": "application/connect+json" } };
}

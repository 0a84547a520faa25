/** Files, streams, documents, charts, jobs and commands: each has a span that says what it is and whether it failed. */
import { execFile } from "node:child_process";
import { generateKeyPairSync, randomUUID } from "node:crypto";
import { readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { promisify } from "node:util";
import { createClient } from "@connectrpc/connect";
import { createGrpcTransport } from "@connectrpc/connect-node";
import { BillingService } from "@pm/proto/billing/v1/billing";
import { environmentFor } from "@pm/stack/environment";
import type { DatabaseName } from "@pm/stack/names";
import { ROOT } from "@pm/stack/services";
import { Secret, TOTP } from "otpauth";
import { afterAll, beforeAll, expect, test } from "vitest";
import { type Client, clientOf, type PatientAnswer, person } from "../e2e/client.ts";
import * as collected from "./collected.ts";

const { millisecondsOf, newTrace, pathTo, spansOf, startTraced, stopTraced, untilPaths, untilSpan } = collected;

/** In names, keys and reasons that are sent, and in no span. */
const secret = "Zebedee";
const ids: string[] = [];
let admin: Client;

beforeAll(async () => {
  await startTraced({ OTEL_TRACES_SAMPLER_ARG: "1", RECORD_RETENTION_YEARS: "0", BILLING_RETENTION_YEARS: "0" });
  ({ admin } = collected);
});
afterAll(stopTraced);

const rpc = (method: string, body: object, headers = {}) =>
  admin.send("POST", `/billing.v1.BillingService/${method}`, { requestId: randomUUID(), ...body }, headers);

/** A patient with an account. */
async function somebody(): Promise<{ id: string; accountId: string }> {
  const { id } = (await admin.send("POST", "/patients", { ...person(), name: `${secret} Path` })).body as PatientAnswer;
  const read = async () => ((await admin.get(`/patients/${id}`)).body as PatientAnswer).billing.accountId;
  await expect.poll(read, { timeout: 20_000 }).toBeDefined();
  const accountId = (await read()) as string;
  ids.push(id, accountId);
  return { id, accountId };
}

const errorOf = (name: string, traceId: string) => {
  const span = spansOf(traceId).find((each) => each.name === name);
  return span && { isError: span.isError, type: span.attributes["error.type"] };
};

test("an import is a span with its steps, and the job that opens its accounts has a link to it", async () => {
  const { traceId, headers } = newTrace();
  const body = Array.from({ length: 2_500 }, () => JSON.stringify({ ...person(), name: `${secret} Import` })).join("\n");
  const more = { ...headers, "content-type": "application/x-ndjson", "idempotency-key": `${secret}-${randomUUID()}` };
  const answer = await admin.send("POST", "/patients:import", body, more);
  expect(answer.body).toMatchObject({ created: 2_500 });
  const request = ["gateway: POST patients.stream", "patient: POST /patients:import"];
  await untilPaths(traceId, [
    [...request, "patient: imports_begin"],
    [...request, "patient: imports_advance"],
  ]);
  const span = await untilSpan(traceId, "POST /patients:import");
  expect(span).toMatchObject({
    ...{ kind: 2, isError: false },
    attributes: { "http.request.method": "POST", "http.route": "/patients:import", "http.response.status_code": 200 },
  });
  const steps = spansOf(traceId).filter(({ name }) => name === "imports_advance");
  expect(steps.length).toBeGreaterThanOrEqual(3);
  for (const { start, end } of steps) expect([start >= span.start, end <= span.end]).toEqual([true, true]);
  const job = await untilSpan(traceId, "job billing_accounts");
  expect(job.links.map((link) => link.traceId)).toContain(traceId);
});

test.each(["application/x-ndjson", "text/csv"])("the span of an export of %s lasts until its last byte is sent", async (accept) => {
  const { traceId, headers } = newTrace();
  const url = `${collected.platform.gatewayUrl}/patients:export?q=${secret}`;
  const answer = await fetch(url, { headers: { ...headers, accept, authorization: `Bearer ${admin.token}` } });
  const text = await answer.text();
  expect(text.split("\n").length).toBeGreaterThan(2_500);
  const span = await untilSpan(traceId, "GET /patients:export");
  expect(span).toMatchObject({ kind: 2, isError: false, attributes: { "http.response.status_code": 200 } });
  const below = spansOf(traceId).filter(({ parentSpanId }) => parentSpanId === span.spanId);
  expect(below.filter(({ kind }) => kind === 3).length).toBeGreaterThanOrEqual(3);
  for (const { end } of below) expect(end).toBeLessThanOrEqual(span.end);
});

test("the span of a gRPC stream lasts until its caller goes, and the work for each message is below it", async () => {
  const { accountId } = await somebody();
  const { traceId, headers } = newTrace();
  const client = createClient(BillingService, createGrpcTransport({ baseUrl: collected.platform.gatewayUrl }));
  const stop = new AbortController();
  const charge = () => rpc("CreateCharge", { accountId, amount: { currencyCode: "EUR", minorUnits: "500" }, description: secret });
  await charge();
  const signedIn = { authorization: `Bearer ${admin.token}` };
  const watch = client
    .watchAccount({ accountId, position: 0n }, { headers: { ...signedIn, ...headers }, signal: stop.signal })
    [Symbol.asyncIterator]();
  await watch.next();
  const next = watch.next();
  await charge();
  await next;
  stop.abort();
  await watch.next().catch(() => undefined);
  const method = "billing.v1.BillingService/WatchAccount";
  const span = await untilSpan(traceId, method);
  const attributes = { "rpc.system.name": "grpc", "rpc.method": method, "rpc.response.status_code": "CANCELLED" };
  expect(span).toMatchObject({ kind: 2, isError: false, attributes });
  expect(readFileSync(join(collected.dataDir, "logs/billing.log"), "utf8")).not.toContain("call failed");
  expect(spansOf(traceId).filter(({ parentSpanId }) => parentSpanId === span.spanId).length).toBeGreaterThan(0);

  const statement = newTrace();
  const today = new Date().toISOString().slice(0, 10);
  await Array.fromAsync(
    client.streamStatement({ accountId, fromDate: "2026-01-01", toDate: today }, { headers: { ...signedIn, ...statement.headers } }),
  );
  const streamed = await untilSpan(statement.traceId, "billing.v1.BillingService/StreamStatement");
  expect(streamed).toMatchObject({ isError: false, attributes: { "rpc.response.status_code": "OK" } });
});

test("a PDF and a chart are spans of their threads below their requests", async () => {
  const { accountId } = await somebody();
  await rpc("CreateCharge", { accountId, amount: { currencyCode: "EUR", minorUnits: "500" }, description: secret });
  const { invoice } = (await rpc("CreateInvoice", { accountId, issue: true })).body as { invoice: { invoiceId: string } };
  ids.push(invoice.invoiceId);
  const pdf = newTrace();
  const answer = await admin.get(`/billing/invoices/${invoice.invoiceId}?format=pdf`, pdf.headers);
  expect([answer.status, answer.text.slice(0, 5)]).toEqual([200, "%PDF-"]);
  const document = await untilSpan(pdf.traceId, "render pdf");
  expect(pathTo(document).slice(-2)).toEqual(["billing: GET /billing/invoices/{id}", "billing: render pdf"]);
  const chart = newTrace();
  expect((await admin.get("/analytics/patients?format=svg", chart.headers)).status).toBe(200);
  const drawn = await untilSpan(chart.traceId, "draw chart");
  expect(pathTo(drawn).at(-2)).toBe("analytics: GET /analytics/patients");
  for (const span of [document, drawn]) expect([span.kind, span.isError, millisecondsOf(span) > 0]).toEqual([1, false, true]);
});

/** The administrator's token, now with a second factor. */
async function withSecondFactor(): Promise<string> {
  const { gatewayUrl, admin: credentials } = collected.platform;
  const nobody = clientOf(gatewayUrl);
  const login = (await nobody.send("POST", "/auth/login", credentials)).body as { token: string; refreshToken: string };
  const before = clientOf(gatewayUrl, login.token);
  const { secret } = (await before.send("POST", "/auth/mfa/totp", { password: credentials.password })).body as { secret: string };
  await before.send("POST", "/auth/mfa/totp/confirm", { code: new TOTP({ secret: Secret.fromBase32(secret) }).generate() });
  return ((await nobody.send("POST", "/auth/refresh", { refreshToken: login.refreshToken })).body as { token: string }).token;
}

test("a job of a leader is a trace of its own with what it did, and one that finds nothing to do is none", async () => {
  const { id } = await somebody();
  // A second factor ends the sessions from before it.
  admin = clientOf(collected.platform.gatewayUrl, await withSecondFactor());
  const answer = await admin.send("POST", `/patients/${id}:erase`, { reason: "They asked by letter" });
  expect(answer.status, answer.text).toBe(202);
  const jobs = (name: string) => collected.sink.spans.filter((span) => span.name === `job ${name}`);
  const pathsOf = (name: string) => jobs(name).flatMap(({ traceId }) => spansOf(traceId).map(pathTo));
  await expect
    .poll(() => pathsOf("patient_erasures"), { timeout: 30_000 })
    .toContainEqual([
      "patient: job patient_erasures",
      "patient: billing.v1.BillingInternalService/EraseParty",
      expect.stringMatching(/^billing: /),
    ]);
  await expect
    .poll(() => pathsOf("duplicate_pairs"), { timeout: 30_000 })
    .toContainEqual(["patient: job duplicate_pairs", "patient: duplicate_pairs_store"]);
  for (const job of [...jobs("patient_erasures"), ...jobs("duplicate_pairs")]) expect([job.kind, job.isError]).toEqual([1, false]);
  // Each of them looks every two seconds.
  const looks = () => collected.sink.spans.filter(({ name }) => name === "duplicate_progress_read" || name === "erasures_failing");
  const orphans = looks().filter(({ traceId }) => !spansOf(traceId).some(({ name }) => name.startsWith("job ")));
  expect(orphans).toEqual([]);
});

/** Runs a command as `npm start` would, and gives its exit code. */
async function runCommand(service: DatabaseName | "fhir", name: string, args: string[] = [], env = {}): Promise<number> {
  const { platform, sink, dataDir } = collected;
  const { databases, ports, secrets, gatewayUrl, kafka } = platform;
  const brokers = [kafka.brokers].flat();
  const own = environmentFor({ databases, ports, secrets, gatewayUrl, brokers, host: "127.0.0.1" })[service];
  const owner = service === "fhir" ? {} : { MIGRATION_DATABASE_URL: databases[service].migrationDatabaseUrl };
  const more = {
    SERVICE_URL: platform.services[service].url,
    OTEL_EXPORTER_OTLP_ENDPOINT: sink.url,
    AUDIT_HEAD_DIRECTORY: join(dataDir, "heads"),
  };
  const running = promisify(execFile)(process.execPath, [join(ROOT, "services", service, "src/commands", `${name}.ts`), ...args], {
    env: { PATH: process.env.PATH, ...own, ...owner, ...more, ...env },
  });
  return running.then(
    () => 0,
    ({ code }: { code: number }) => code,
  );
}

test("every command that reaches the platform is a trace with its exit code, and one that fails is an error", {
  timeout: 240_000,
}, async () => {
  const { dataDir } = collected;
  const key = join(dataDir, "key.pem");
  writeFileSync(key, generateKeyPairSync("ec", { namedCurve: "P-256" }).privateKey.export({ type: "pkcs8", format: "pem" }));
  const special: Record<string, { args?: string[]; env?: object }> = {
    "publish-audit-head": { env: { AUDIT_HEAD_KEY_FILE: key } },
    "drop-audit-months": { args: ["--keep", "120"] },
    reconcile: { args: ["--report"] },
  };
  const commands = (["auth", "billing", "analytics", "patient", "fhir"] as const).flatMap((service) =>
    readdirSync(join(ROOT, "services", service, "src/commands")).map((file) => [service, file.replace(".ts", "")] as const),
  );
  for (const [service, name] of commands) {
    // It reads and writes files only.
    if (name === "train-matching") continue;
    const { args, env } = special[name] ?? {};
    const code = await runCommand(service, name, args, env);
    const span = collected.sink.spans.find((each) => each.name === `command ${name}` && each.resource["service.name"] === service);
    expect(span, `${service} ${name}`).toMatchObject({ kind: 1, isError: code !== 0, parentSpanId: "" });
    expect(span?.attributes, `${service} ${name}`).toMatchObject({ "process.exit.code": code });
  }
  const wrong = await runCommand("billing", "verify-ledger", [], { DATABASE_URL: "postgres://nobody@127.0.0.1:1/nothing" });
  const failed = collected.sink.spans.filter(({ name, isError }) => name === "command verify-ledger" && isError);
  expect([wrong, failed.map(({ attributes }) => attributes["error.type"])]).toEqual([1, ["ECONNREFUSED"]]);
});

test("without Postgres, the span of each of these is an error", async () => {
  const { postgres } = collected.platform;
  await postgres.kill();
  const traces = Array.from({ length: 4 }, () => newTrace());
  const [file, list, report, call] = traces as [(typeof traces)[0], (typeof traces)[0], (typeof traces)[0], (typeof traces)[0]];
  const ndjson = { "content-type": "application/x-ndjson" };
  const billing = clientOf(collected.platform.services.billing.url, admin.token);
  const sampled = { traceparent: `00-${call.traceId}-00f067aa0ba902b7-01` };
  const answers = await Promise.all([
    admin.send("POST", "/patients:import", JSON.stringify(person()), { ...ndjson, ...file.headers }),
    admin.get("/patients:export", list.headers),
    admin.get("/analytics/patients?format=svg", report.headers),
    billing.send("POST", "/billing.v1.BillingService/GetBillingAccount", { patientId: randomUUID() }, sampled),
  ]);
  await postgres.start();
  expect(answers.map(({ status }) => status)).toEqual([503, 503, 503, 503]);
  const errors = () => [
    errorOf("POST /patients:import", file.traceId),
    errorOf("GET /patients:export", list.traceId),
    errorOf("GET /analytics/patients", report.traceId),
    errorOf("billing.v1.BillingService/GetBillingAccount", call.traceId),
  ];
  const unavailable = { isError: true, type: "503" };
  await expect.poll(errors, { timeout: 20_000 }).toEqual([unavailable, unavailable, unavailable, { isError: true, type: "unavailable" }]);
});

test("none of this has sent a name, a key or an id of a patient, an account or an invoice", () => {
  const received = Buffer.concat(collected.sink.received).toString("latin1");
  expect(ids.length).toBeGreaterThan(5);
  for (const text of [secret, secret.toLowerCase(), "ada.path", ...ids])
    expect(received.includes(text), `${text} is in a span`).toBe(false);
});

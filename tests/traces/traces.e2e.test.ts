/** One request, followed from the gateway to analytics by the spans that a collector gets. */
import { randomUUID } from "node:crypto";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import pg from "pg";
import { afterAll, beforeAll, expect, test } from "vitest";
import { type PatientAnswer, person } from "../e2e/client.ts";
import { admin, dataDir, newTrace, pathTo, platform, sink, spansOf, startTraced, stopTraced, untilPaths, untilSpan } from "./collected.ts";

beforeAll(() => startTraced());
afterAll(stopTraced);

test("one create is one trace, from the gateway over billing and Kafka to analytics", async () => {
  const { traceId, headers } = newTrace();
  const answer = await admin.send("POST", "/patients", person(), { ...headers, "x-request-id": "request-of-a-create" });
  expect(answer.status, answer.text).toBe(201);
  const create = ["gateway: POST patients", "patient: POST /patients"];
  const opening = [...create, "patient: batch billing_accounts"];
  const call = "billing.v1.BillingService/BatchCreateBillingAccounts";
  const send = [...create, "patient: send outbox"];
  const paths = [
    [...create, "patient: batch patient_creates", "patient: patients_create"],
    [...opening, `patient: ${call}`, `billing: ${call}`, "billing: accounts_open"],
    [...create, "patient: batch billing_account_ids", "patient: billing_save"],
    [...send, "analytics: process patient.v1"],
  ];
  await untilPaths(traceId, paths);
  const [request] = spansOf(traceId).filter(({ name }) => name === "POST /patients");
  expect(request?.attributes).toMatchObject({ "http.route": "/patients", "http.request.header.x-request-id": ["request-of-a-create"] });
  const process = await untilSpan(traceId, "process patient.v1");
  expect(process.links.map((link) => link.traceId)).toContain(traceId);
});

test("the gateway keeps the id of a trace, and decides itself whether it is recorded", async () => {
  for (const flags of ["00", "01"]) {
    const { traceId, headers } = newTrace(flags);
    await admin.get("/patients?limit=1", headers);
    await untilPaths(traceId, [["gateway: GET patients.read", "patient: GET /patients"]]);
  }
});

test("every log line of a request has the id of its trace", async () => {
  const { traceId, headers } = newTrace();
  await admin.get("/patients?limit=1", { ...headers, "x-request-id": "request-with-a-log" });
  const linesOf = (name: string) =>
    readFileSync(join(dataDir, "logs", `${name}.log`), "utf8")
      .split("\n")
      .filter((line) => line.includes("request-with-a-log"));
  for (const name of ["gateway", "patient"]) {
    await expect.poll(() => linesOf(name).length, { timeout: 10_000 }).toBe(1);
    expect(JSON.parse(linesOf(name)[0] ?? "")).toMatchObject({ traceId });
  }
});

test("a latency histogram names traces as examples", async () => {
  await admin.get("/patients?limit=1");
  const answer = await fetch(`${platform.services.patient.url}/metrics`);
  expect(answer.headers.get("content-type")).toMatch(/^application\/openmetrics-text/);
  const text = await answer.text();
  expect(text).toMatch(
    /http_server_request_duration_seconds_bucket\{[^}]*http_route="\/patients"[^}]*\} \d+ # \{trace_id="[0-9a-f]{32}",span_id="[0-9a-f]{16}"\}/,
  );
  expect(text.trimEnd()).toMatch(/# EOF$/);
});

test("the worker that opens a missing account keeps the link to the create that it completes", async () => {
  const { traceId, headers } = newTrace();
  await platform.services.billing.stop();
  const answer = await admin.send("POST", "/patients", person(), headers);
  expect((answer.body as PatientAnswer).billing.status).toBe("pending");
  await platform.services.billing.restart();
  const url = new URL(platform.postgres.url);
  url.pathname = "/patient";
  const client = new pg.Client({ connectionString: url.href });
  await client.connect();
  await client.query("update patient_billing set next_attempt_at = now() where account_id is null");
  await client.end();
  const job = await untilSpan(traceId, "job billing_accounts");
  expect(job.links.map((link) => link.traceId)).toContain(traceId);
  expect(pathTo(job).slice(-2)).toEqual(["patient: POST /patients", "patient: job billing_accounts"]);
});

test("no name and no id of a patient reaches the collector, in whatever part of a request they come", async () => {
  const secret = "Zebedee";
  const hidden = { baggage: `name=${secret}`, tracestate: `name=${secret}`, "user-agent": secret, "x-client-trace-id": secret };
  const body = { ...person(), name: `${secret} Path`, email: `${secret}@example.com` };
  const created = await admin.send("POST", "/patients", body, hidden);
  const { id, billing } = created.body as PatientAnswer;
  const missing = randomUUID();
  const account = { patientId: id };
  const answers = [
    await admin.get(`/patients/${id}`, hidden),
    await admin.get(`/patients/${missing}`, hidden),
    await admin.get(`/patients?q=${secret}`, hidden),
    await admin.get(`/patients/${secret}`, hidden),
    await admin.get(`/${secret}`, hidden),
    await admin.send("PATCH", `/patients/${id}`, { name: `${secret} Changed` }, hidden),
    await admin.send("POST", "/patients", body, hidden),
    await admin.send("POST", "/patients", { ...body, dateOfBirth: secret }, hidden),
    await admin.get("/patients:export", { ...hidden, accept: "text/csv" }),
    await admin.send("POST", "/billing.v1.BillingService/GetBillingAccount", account, hidden),
    await admin.send("POST", `/billing.v1.BillingService/${secret}`, account, hidden),
    await admin.get(`/analytics/patients?interval=${secret}`, hidden),
  ];
  expect(answers.map(({ status }) => status)).toEqual([200, 404, 200, 404, 404, 200, 409, 400, 200, 200, 501, 400]);
  const { traceId, headers } = newTrace();
  await admin.send("DELETE", `/patients/${id}`, undefined, { ...hidden, ...headers });
  await untilSpan(traceId, "DELETE /patients/{id}");
  // Analytics may apply it with the events before it, in the trace of one of those.
  const applied = () =>
    sink.spans.some(({ name, links }) => name === "process patient.v1" && links.some((link) => link.traceId === traceId));
  await expect.poll(applied, { timeout: 20_000 }).toBe(true);
  await expect
    .poll(() => spansOf(traceId).filter((span) => span.resource["service.name"] === "gateway").length, { timeout: 10_000 })
    .toBe(1);
  const received = Buffer.concat(sink.received).toString("latin1");
  for (const text of [secret, secret.toLowerCase(), id, missing, billing.accountId ?? "none"])
    expect(received.includes(text), `${text} is in a span`).toBe(false);
  const addresses = sink.spans.flatMap(({ attributes }) => attributes["peer.address"] ?? []);
  expect([addresses.length > 0, new Set(addresses)]).toEqual([true, new Set(["-"])]);
});

test("without the collector, requests are answered, and what is not sent is counted", async () => {
  await sink.close();
  for (let n = 0; n < 20; n++) expect((await admin.get("/patients?limit=1")).status).toBe(200);
  const lost = /^otel_sdk_exporter_span_exported_total\{error_type="ECONNREFUSED"\} ([1-9]\d*)/m;
  await expect.poll(async () => (await fetch(`${platform.services.patient.url}/metrics`)).text(), { timeout: 20_000 }).toMatch(lost);
});

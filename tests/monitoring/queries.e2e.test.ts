/** Every question that dashboards and alerts ask, answered by a Prometheus beside a platform that has been used. */
import { randomUUID } from "node:crypto";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { readSamples, type Sample } from "@pm/kit/doctor/samples";
import { burnRates } from "@pm/monitoring/burn-rates";
import { dashboards } from "@pm/monitoring/dashboards/dashboards";
import { allAlerts } from "@pm/monitoring/rules";
import { queriesOf } from "@pm/monitoring/runbooks";
import { SERVICES } from "@pm/stack/names";
import { type Platform, startPlatform } from "@pm/stack/platform";
import { run } from "@pm/stack/programs/child";
import { startPrometheus, targetsOf } from "@pm/stack/prometheus";
import { afterAll, beforeAll, expect, test } from "vitest";
import { type Client, clientOf, logIn, type PatientAnswer, person } from "../e2e/client.ts";

const dataDir = mkdtempSync(join(tmpdir(), "pm-monitoring-"));
let platform: Platform;
let prometheus: Awaited<ReturnType<typeof startPrometheus>>;
let admin: Client;

beforeAll(async () => {
  platform = await startPlatform({ dataDir, durable: false });
  prometheus = await startPrometheus({
    dataDir,
    targets: targetsOf(platform.ports),
    everySeconds: 1,
    progress: (line) => void process.stderr.write(`${line}\n`),
  });
  admin = await logIn(platform);
});
afterAll(async () => {
  await prometheus?.stop();
  await platform?.stop();
  rmSync(dataDir, { recursive: true, force: true });
});

/** What has nothing to say here, and why. */
const rightlyEmpty: Record<string, string> = {
  ReplicasMissing: "kube-state-metrics is part of a cluster",
  MigrationFailed: "kube-state-metrics is part of a cluster",
  MemoryNearLimit: "the kubelet is part of a cluster",
  "runbook of ReplicasMissing": "kube-state-metrics is part of a cluster",
  "runbook of MigrationFailed": "kube-state-metrics is part of a cluster",
  "runbook of MemoryNearLimit": "the kubelet is part of a cluster",
  "overview: Alerts that fire": "nothing is wrong",
  ReconciliationFindings: "the first comparison is minutes after the start",
  "runbook of ReconciliationFindings": "the first comparison is minutes after the start",
  "billing: Found by the last reconciliation": "the first one is minutes after the start",
  "analytics: Numbers that differ from those of other services": "the first comparison is minutes after the start",
  "business: Patients without an account, accounts without a patient": "the first one is minutes after the start",
  "analytics: From commit to Kafka, 99th percentile": "it publishes nothing but dead letters",
  "gateway: Requests refused by a limit": "nobody is refused",
  "gateway: Failed and repeated requests": "every service takes connections",
  "gateway: Failed and repeated requests (2)": "every service takes connections",
};

/** The questions by who asks. Grafana puts in what the reader has chosen. */
const questions = new Map<string, string>([
  ...allAlerts.flatMap(({ name, value, expr }): [string, string][] => [
    [name, value],
    [`${name}, as a whole`, expr],
  ]),
  ...allAlerts.flatMap(({ name }) =>
    queriesOf(name).map((query, n): [string, string] => [`runbook of ${name}${n > 0 ? ` (${n + 1})` : ""}`, query]),
  ),
  ...burnRates.map(({ record, expr, labels }): [string, string] => [`${record} of ${Object.values(labels)}`, expr]),
  ...dashboards.flatMap(({ uid, rows }) =>
    rows
      .flatMap(({ panels }) => panels)
      .flatMap(({ title, queries }) =>
        queries.map(({ expr }, n): [string, string] => [`${uid.replace("pm-", "")}: ${title}${n > 0 ? ` (${n + 1})` : ""}`, expr]),
      ),
  ),
]);

/** @throws Error if Prometheus does not understand it */
async function ask(question: string): Promise<number[]> {
  const query = question.replaceAll("$namespace", ".*").replaceAll("$__rate_interval", "1m");
  const answer = await fetch(`${prometheus?.url}/api/v1/query`, { method: "POST", body: new URLSearchParams({ query }) });
  const body = (await answer.json()) as { error?: string; data: { result: { value: [number, string] }[] } };
  if (body.error !== undefined) throw new Error(`${query}: ${body.error}`);
  return body.data.result.map(({ value }) => Number(value[1])).filter(Number.isFinite);
}

/** What people do in a day. */
async function useEverything(): Promise<void> {
  const created = await admin.send("POST", "/patients", person());
  const { id } = created.body as PatientAnswer;
  const rpc = (method: string, body: object) =>
    admin.send("POST", `/billing.v1.BillingService/${method}`, { requestId: randomUUID(), ...body });
  const account = (await admin.send("POST", "/billing.v1.BillingService/GetBillingAccount", { patientId: id })).body as {
    account?: { accountId: string };
  };
  const accountId = account.account?.accountId ?? "";
  const amount = { currencyCode: "EUR", minorUnits: "1000" };
  await rpc("CreateCharge", { accountId, amount, description: "Visit" });
  await rpc("RecordPayment", { accountId, amount, method: "PAYMENT_METHOD_CARD" });
  await rpc("CreateInvoice", { accountId, issue: true });
  const { token } = await logIn(platform);
  await clientOf(platform.gatewayUrl).send("POST", "/auth/login", { ...platform.admin, password: "not the right one" });
  for (const path of [
    "/billing/tax-summary",
    `/patients/${id}`,
    "/patients?limit=5",
    "/analytics/patients",
    "/analytics/charts/patients.svg",
    `/fhir/R4/Patient/${id}`,
    "/fhir/R4/Patient?family=lovelace",
    "/nothing",
  ])
    await admin.get(path);
  await admin.send("PATCH", `/patients/${id}`, { name: "Ada Changed" });
  const headers = { authorization: `Bearer ${token}`, "content-type": "application/x-ndjson" };
  const file = { method: "POST", headers, body: `${JSON.stringify(person())}\n` };
  await (await fetch(`${platform.gatewayUrl}/patients:import?dryRun=true`, file)).text();
  await (await fetch(`${platform.gatewayUrl}/patients:export`, { headers })).text();
  await clientOf(platform.gatewayUrl, token).send("POST", "/auth/logout");
}

async function runChecks(): Promise<void> {
  const commands = {
    auth: ["verify-audit"],
    billing: ["verify-audit", "verify-ledger"],
    patient: ["verify-audit"],
    analytics: ["verify-audit"],
  };
  for (const [service, names] of Object.entries(commands))
    for (const name of names) {
      const env = { ...process.env, DATABASE_URL: platform.databases[service as keyof typeof commands].databaseUrl };
      await run(process.execPath, [join("services", service, "src/commands", `${name}.ts`)], {
        env,
        cwd: join(import.meta.dirname, "../.."),
      });
    }
}

/** Without Postgres there are errors to count. Billing is asked itself: the gateway soon knows that it is not ready. */
async function breakDown(): Promise<void> {
  await platform.postgres.kill();
  const billing = clientOf(platform.services.billing.url, admin.token);
  const answers = await Promise.all([
    admin.get("/patients?limit=5"),
    admin.get("/analytics/patients"),
    billing.send("POST", "/billing.v1.BillingService/GetBillingAccount", { patientId: randomUUID() }),
  ]);
  await platform.postgres.start();
  expect(answers.map(({ status }) => status)).toEqual([503, 503, 503]);
  await expect.poll(async () => (await admin.get("/patients?limit=5")).status, { timeout: 30_000 }).toBe(200);
}

test("Prometheus has an answer to every question of dashboards and alerts", { timeout: 300_000 }, async (context) => {
  if (!prometheus) return context.skip("there is no Prometheus to be had");
  await runChecks();
  await useEverything();
  await breakDown();
  const empty = async () => {
    await useEverything();
    const asked = await Promise.all([...questions].map(async ([name, question]) => ((await ask(question)).length === 0 ? [name] : [])));
    return asked.flat().filter((name) => !name.endsWith("as a whole") && rightlyEmpty[name] === undefined);
  };
  await expect.poll(empty, { timeout: 120_000, interval: 2_000 }).toEqual([]);
  expect(Object.keys(rightlyEmpty).filter((name) => !questions.has(name))).toEqual([]);
});

/** What the services and the gateway show. The metrics of Node itself come and go. */
async function samplesNow(): Promise<Sample[]> {
  const ports = [...SERVICES.map((name) => platform.ports[name]), platform.ports.gatewayHealth];
  const texts = await Promise.all(ports.map(async (port) => (await fetch(`http://127.0.0.1:${port}/metrics`)).text()));
  return texts.flatMap(readSamples).filter(({ name }) => !name.startsWith("nodejs_"));
}

/** How many values each label of each metric has. */
function countValues(samples: Sample[]): Map<string, number> {
  const values = new Map<string, Set<string>>();
  for (const { name, labels } of samples)
    for (const [label, value] of Object.entries(labels))
      values.set(`${name} ${label}`, (values.get(`${name} ${label}`) ?? new Set()).add(value));
  return new Map([...values].map(([label, { size }]) => [label, size]));
}

test("whatever ids, paths and methods people send, no label has more values for it", { timeout: 120_000 }, async () => {
  const rounds = 50;
  const ids = new Set<string>();
  const round = async () => {
    const id = randomUUID();
    ids.add(id.slice(0, 8));
    await admin.get(`/patients/${id}`);
    await admin.get(`/patients?q=${id}`);
    await admin.get(`/${id}/patients/${id}`);
    await admin.send(`M${id.slice(0, 8)}`.toUpperCase(), "/patients");
    await admin.send("POST", `/billing.v1.BillingService/M${id.slice(0, 8)}`, {});
    await admin.send("POST", "/billing.v1.BillingService/GetBillingAccount", { patientId: id });
    await admin.get(`/analytics/${id}`);
    await admin.get(`/auth/users/${id}`);
  };
  await round();
  const before = await samplesNow();
  const counted = countValues(before);
  for (let n = 0; n < rounds; n++) await round();
  const after = await samplesNow();
  const texts = after.map(({ labels }) => JSON.stringify(labels).toLowerCase());
  expect([...ids].filter((id) => texts.some((text) => text.includes(id)))).toEqual([]);
  // Series are not compared, because other work adds some meanwhile: Envoy shows a histogram from its first value on,
  // such as when a busy Prometheus closes a connection for the first time. That gives a label one value, with all
  // buckets. A label that takes what people send has one more with every round.
  const grown = [...countValues(after)].filter(([label, count]) => count - (counted.get(label) ?? 0) >= rounds / 5);
  expect(grown).toEqual([]);
  expect(before.length).toBeLessThan(15_000);
});

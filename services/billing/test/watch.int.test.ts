/** Streams of accounts, and the questions to patient-service: with one and two processes, killed and restarted. */
import { execFile } from "node:child_process";
import { randomUUID } from "node:crypto";
import { join } from "node:path";
import { promisify } from "node:util";
import { type Client, Code, ConnectError, createClient } from "@connectrpc/connect";
import { createGrpcTransport } from "@connectrpc/connect-node";
import { BillingAccountStatus, BillingService, type WatchAccountResponse } from "@pm/proto/billing/v1/billing";
import { query } from "@pm/stack/native/postgres";
import { freePort } from "@pm/stack/programs/ports";
import { type Service, startService } from "@pm/stack/services";
import { type TestDatabase, testDatabase } from "@pm/stack/testing";
import { afterAll, beforeAll, expect, test } from "vitest";
import { createPatients } from "../src/patient-client.ts";
import { createReconciliation } from "../src/reconciliation/reconciliation.ts";
import { environmentFor, type Issuer, openReplica, type Replica, startBilling, startIssuer } from "./testing.ts";

let database: TestDatabase;
let issuer: Issuer;
let one: Service;
let other: Service;
let clerk: string;

let patients: Service;
let patientDatabase: TestDatabase;

beforeAll(async () => {
  [database, patientDatabase, issuer] = await Promise.all([testDatabase("billing"), testDatabase("patient"), startIssuer()]);
  const port = await freePort();
  const patientUrl = `http://127.0.0.1:${port}`;
  const start = () => startBilling({ databaseUrl: database.databaseUrl, issuer, patientUrl });
  [one, other] = (await Promise.all([start(), start()])) as [Service, Service];
  patients = await startService({
    name: "patient",
    port,
    // Only disclosures ask analytics.
    env: { ...environmentFor(issuer), DATABASE_URL: patientDatabase.databaseUrl, BILLING_URL: one.url, ANALYTICS_URL: one.url },
  });
  clerk = await issuer.person("billing");
});
afterAll(async () => {
  await Promise.all([one?.stop(), other?.stop(), patients?.stop()]);
  await issuer?.close();
  await database?.drop();
  await patientDatabase?.drop();
});

const clients = new Map<string, Client<typeof BillingService>>();
function client({ url }: Service): Client<typeof BillingService> {
  const known = clients.get(url) ?? createClient(BillingService, createGrpcTransport({ baseUrl: url }));
  clients.set(url, known);
  return known;
}
const as = (authorization: string) => ({ headers: { authorization } });
const newAccount = async (patientId: string = randomUUID()) =>
  (await client(one).createBillingAccount({ patientId, name: "Ada", email: "ada@example.com" }, as(await issuer.service("patient"))))
    .accountId;
const charge = (service: Service, accountId: string) =>
  client(service).createCharge(
    { accountId, amount: { currencyCode: "EUR", minorUnits: 100n }, description: "x", requestId: randomUUID() },
    as(clerk),
  );
async function until(condition: () => boolean | Promise<boolean>, what: string): Promise<void> {
  for (const deadline = Date.now() + 15_000; !(await condition()); await new Promise((resolve) => setTimeout(resolve, 20)))
    if (Date.now() > deadline) throw new Error(`not within 15 s: ${what}`);
}

/** A caller as the contract describes: it keeps the last position, and calls again with it, at any replica. */
function follow(accountId: string, services: Service[], position?: bigint) {
  const seen: bigint[] = [];
  const errors: Code[] = [];
  const messages: WatchAccountResponse[] = [];
  const stop = new AbortController();
  const state = { position };
  const running = (async () => {
    for (let attempt = 0; !stop.signal.aborted; attempt += 1) {
      const service = services[attempt % services.length] as Service;
      try {
        const request = { accountId, ...(state.position !== undefined && { position: state.position }) };
        for await (const message of client(service).watchAccount(request, { ...as(clerk), signal: stop.signal })) {
          messages.push(message);
          seen.push(...message.transactions.map((transaction) => transaction.sequence));
          state.position = message.position;
        }
      } catch (error) {
        if (!stop.signal.aborted) errors.push(ConnectError.from(error).code);
        await new Promise((resolve) => setTimeout(resolve, 50));
      }
    }
  })();
  const end = () => {
    stop.abort();
    return running;
  };
  return { seen, errors, messages, end };
}

test("a watch tells the account at once, then every transaction, whichever replica posted it", async () => {
  const accountId = await newAccount();
  await charge(one, accountId);
  const fromNow = follow(accountId, [one]);
  const fromStart = follow(accountId, [one], 0n);
  await until(() => fromNow.messages.length === 1 && fromStart.seen.length === 1, "the first message");
  expect(fromNow.messages[0]).toMatchObject({ account: { accountId, balance: { minorUnits: 100n } }, transactions: [], position: 1n });
  await charge(one, accountId);
  await charge(other, accountId);
  await until(() => fromStart.seen.length === 3 && fromNow.seen.length === 2, "both charges");
  expect([fromStart.seen, fromNow.seen]).toEqual([
    [1n, 2n, 3n],
    [2n, 3n],
  ]);
  await client(other).updateBillingAccount(
    { account: { accountId, status: BillingAccountStatus.SUSPENDED }, requestId: randomUUID() },
    as(clerk),
  );
  await until(() => fromNow.messages.at(-1)?.account?.status === BillingAccountStatus.SUSPENDED, "the new status");
  await Promise.all([fromNow.end(), fromStart.end()]);
});

test("a watch goes on after the service is stopped and after it is killed: nothing is missed, nothing told twice", {
  timeout: 120_000,
}, async () => {
  const accountId = await newAccount();
  const watched = follow(accountId, [one], 0n);
  await until(() => watched.messages.length > 0, "the first message");
  for (const end of ["stop", "kill"] as const) {
    const started = Date.now();
    await one[end]();
    // A graceful stop does not wait for streams until its time limit.
    if (end === "stop") expect(Date.now() - started).toBeLessThan(8_000);
    for (let count = 0; count < 5; count += 1) await charge(other, accountId);
    await one.restart();
  }
  await charge(one, accountId);
  await until(() => watched.seen.length >= 11, "eleven charges");
  await watched.end();
  expect(watched.seen).toEqual(Array.from({ length: 11 }, (_, index) => BigInt(index + 1)));
  expect(watched.errors).toContain(Code.Unavailable);
});

test("300 charges whose service is killed under them are each carried out once, by repeating them", { timeout: 120_000 }, async () => {
  const accountId = await newAccount();
  const insist = async (requestId: string): Promise<string> => {
    const request = { accountId, amount: { currencyCode: "EUR", minorUnits: 100n }, description: "x", requestId };
    for (const deadline = Date.now() + 60_000; ; ) {
      try {
        return (await client(one).createCharge(request, as(clerk))).charge?.chargeId ?? "";
      } catch (error) {
        if (Date.now() > deadline) throw error;
        await new Promise((resolve) => setTimeout(resolve, 100));
      }
    }
  };
  const requests = Array.from({ length: 300 }, () => randomUUID());
  const answers = Promise.all(requests.map(insist));
  await until(
    async () => (await rows("select 1 from transactions where account_id = $1 limit 1", [accountId])).length > 0,
    "the first charge",
  );
  await one.kill();
  await one.restart();
  expect(new Set(await answers).size).toBe(300);
  expect(
    await rows("select count(*)::int as count, count(distinct request_id)::int as requests from transactions where account_id = $1", [
      accountId,
    ]),
  ).toEqual([{ count: 300, requests: 300 }]);
});

test("more transactions than fit in a message follow at once", async () => {
  const accountId = await newAccount();
  await Promise.all(Array.from({ length: 620 }, () => charge(one, accountId)));
  const watched = follow(accountId, [one], 0n);
  await until(() => watched.seen.length === 620, "620 transactions");
  expect(watched.messages.map((message) => message.transactions.length)).toEqual([500, 120]);
  await watched.end();
});

test("a watch ends when its token ends, and refuses what makes no sense", async () => {
  const accountId = await newAccount();
  const shortLived = await issuer.person("billing", { expiresInSeconds: 2 });
  const stream = client(one).watchAccount({ accountId }, as(shortLived));
  const drain = async (messages: AsyncIterable<unknown>) => {
    for await (const _ of messages);
  };
  const codeOf = (call: Promise<unknown>) =>
    call.then(
      () => undefined,
      (error: unknown) => ConnectError.from(error).code,
    );
  expect(await codeOf(drain(stream))).toBe(Code.Unauthenticated);
  expect(await codeOf(drain(client(one).watchAccount({ accountId: randomUUID() }, as(clerk))))).toBe(Code.NotFound);
  expect(await codeOf(drain(client(one).watchAccount({ accountId: "x" }, as(clerk))))).toBe(Code.InvalidArgument);
  expect(await codeOf(drain(client(one).watchAccount({ accountId, position: 99n }, as(clerk))))).toBe(Code.InvalidArgument);
  expect(await codeOf(drain(client(one).watchAccount({ accountId }, as(await issuer.person("user")))))).toBe(Code.PermissionDenied);
});

const failure = (call: Promise<unknown>) =>
  call.then(
    () => expect.unreachable(),
    (error: unknown) => ConnectError.from(error),
  );
const rows = (sql: string, values: unknown[] = [], url = database.migrationDatabaseUrl) =>
  query(url, async (client) => (await client.query(sql, values)).rows);

/** Runs a command of billing as an operator does, and gives the JSON that it prints. */
async function command(file: string, args: string[], env: Record<string, string>): Promise<unknown> {
  const { stdout } = await promisify(execFile)(process.execPath, [join(import.meta.dirname, "../src/commands", file), ...args], { env });
  return JSON.parse(stdout);
}

/** Registers a patient at patient-service and waits for the account that it has opened. */
async function register(authorization: string): Promise<{ id: string; accountId: string }> {
  const body = { name: "Grace Hopper", email: `${randomUUID()}@example.com`, address: "1 Main Street", dateOfBirth: "1906-12-09" };
  const headers = { authorization, "content-type": "application/json" };
  const answer = await fetch(`${patients.url}/patients`, { method: "POST", headers, body: JSON.stringify(body) });
  const { id } = (await answer.json()) as { id: string };
  let accountId: string | undefined;
  await until(async () => {
    const patient = (await (await fetch(`${patients.url}/patients/${id}`, { headers })).json()) as { billing: { accountId?: string } };
    accountId = patient.billing.accountId;
    return accountId !== undefined;
  }, "the patient's account");
  return { id, accountId: accountId ?? "" };
}

test("clinical staff see the balances of patients that patient-service shows them, and of nobody else", async () => {
  const nurseId = randomUUID();
  const [nurse, colleague] = [await issuer.person("user", { id: nurseId }), await issuer.person("user")];
  const [mine, theirs] = [await register(nurse), await register(colleague)];
  const get = (key: { case: "accountId" | "patientId"; value: string }, token = nurse) => client(one).getBillingAccount({ key }, as(token));
  for (const key of [
    { case: "patientId", value: mine.id },
    { case: "accountId", value: mine.accountId },
  ] as const)
    expect((await get(key)).account?.accountId).toBe(mine.accountId);
  const hidden = await failure(get({ case: "patientId", value: theirs.id }));
  const missing = await failure(get({ case: "patientId", value: randomUUID() }));
  expect(hidden.code).toBe(Code.NotFound);
  expect([hidden.code, hidden.message, hidden.details]).toEqual([missing.code, missing.message, missing.details]);
  expect((await failure(get({ case: "patientId", value: mine.id }, await issuer.person("analyst")))).code).toBe(Code.PermissionDenied);
  const shared = await fetch(`${patients.url}/patients/${theirs.id}/access`, {
    method: "PUT",
    headers: { authorization: colleague, "content-type": "application/json" },
    body: JSON.stringify({ users: [], teams: [], readers: { users: [nurseId], teams: [] } }),
  });
  expect(shared.status).toBe(200);
  expect((await get({ case: "patientId", value: theirs.id })).account?.accountId).toBe(theirs.accountId);
  await patients.kill("SIGSTOP");
  expect((await failure(get({ case: "patientId", value: mine.id }))).code).toBe(Code.Unavailable);
  await patients.kill("SIGCONT");
});

/** Reconciliation as a replica runs it, ten minutes in the future, so that every account is old enough. */
const reconciliationOf = ({ db, accounts, log }: Replica) =>
  createReconciliation({
    db,
    accounts,
    patients: createPatients({
      patientUrl: patients.url,
      serviceToken: async () => (await issuer.service("billing")).slice("Bearer ".length),
    }),
    now: () => new Date(Date.now() + 600_000),
    log,
  });

test("reconciliation opens what is missing many at a time, and leaves alone what patient-service is about to open", async () => {
  const replica = openReplica(database.databaseUrl);
  const admin = await issuer.person("admin");
  const lost = await Promise.all(Array.from({ length: 150 }, () => register(admin)));
  const [young] = lost;
  await rows("delete from accounts where id = any($1)", [lost.map(({ accountId }) => accountId)]);
  // Its next attempt is in an hour, as after several failures.
  const wait = "update patient_billing set account_id = null, next_attempt_at = now() + interval '1 hour' where patient_id = $1";
  await rows(wait, [young?.id], patientDatabase.migrationDatabaseUrl);
  const report = await reconciliationOf(replica).run({ repair: true });
  expect(report.patientsWithoutAccount).toEqual(
    lost
      .slice(1)
      .map(({ id }) => id)
      .sort(),
  );
  const opened = await rows("select id, patient_id, xmin::text as transaction from accounts where patient_id = any($1)", [
    lost.map(({ id }) => id),
  ]);
  // Under the ids that patient-service has stored.
  const pairs = (of: { id: string; accountId: string }[]) => of.map(({ id, accountId }) => `${id} ${accountId}`).sort();
  expect(pairs(opened.map((row) => ({ id: row.patient_id, accountId: row.id })))).toEqual(pairs(lost.slice(1)));
  expect(new Set(opened.map((row) => row.transaction)).size).toBe(2);
  await rows(wait.replace("+ interval '1 hour'", ""), [young?.id], patientDatabase.migrationDatabaseUrl);
  await until(async () => (await rows("select from accounts where patient_id = $1", [young?.id])).length === 1, "the worker's turn");
  expect((await reconciliationOf(replica).run({ repair: true })).patientsWithoutAccount).toEqual([]);
  await replica.close();
});

test("reconciliation brings back what was lost, suspends what belongs to nobody, and finds nothing afterwards", async () => {
  const replica = openReplica(database.databaseUrl);
  const lost = await register(await issuer.person("admin"));
  const [kept, orphan] = [await register(await issuer.person("admin")), await newAccount()];
  await rows("delete from accounts where id = $1", [lost.accountId]);
  // The accounts of the other tests have no patients either.
  await rows("delete from accounts where id <> all($1) and transaction_count = 0", [[kept.accountId, orphan]]);
  await rows("update accounts set status = 'SUSPENDED' where transaction_count > 0");
  const reconciliation = reconciliationOf(replica);
  const found = await reconciliation.run({ repair: false });
  expect(found.patientsWithoutAccount).toContain(lost.id);
  expect(found.patientsWithoutAccount).not.toContain(kept.id);
  expect(found.accountsWithoutPatient).toContain(orphan);
  expect(found.repaired).toBe(0);
  // There are more orphans than may be suspended without an operator, so none is.
  expect((await reconciliation.run({ repair: true, maxSuspended: 0 })).repaired).toBe(found.patientsWithoutAccount.length);
  expect(await rows("select status from accounts where id = $1", [orphan])).toEqual([{ status: "ACTIVE" }]);
  expect((await reconciliation.run({ repair: true })).repaired).toBe(1);
  expect(await rows("select id, status from accounts where patient_id = $1", [lost.id])).toEqual([
    { id: lost.accountId, status: "ACTIVE" },
  ]);
  expect(await rows("select status from accounts where id = $1", [orphan])).toEqual([{ status: "SUSPENDED" }]);
  expect(await reconciliation.run({ repair: true })).toMatchObject({ patientsWithoutAccount: [], repaired: 0 });
  await replica.close();
  const env = { ...environmentFor(issuer), DATABASE_URL: database.databaseUrl, PATIENT_URL: patients.url };
  expect(await command("reconcile.ts", ["--report"], env)).toMatchObject({ patientsWithoutAccount: [], repaired: 0 });
  expect(await command("verify-ledger.ts", [], env)).toMatchObject({ holds: true });
  expect(await command("verify-audit.ts", [], env)).toMatchObject({ intact: true });
});

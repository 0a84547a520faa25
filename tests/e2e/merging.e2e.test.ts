/**
 * People merge, unmerge, edit, charge, delete and restore records in any order, on the whole platform. In the end every
 * id leads to exactly one record, every account to the one of its survivor, the ledger balances, and analytics counts
 * the same people.
 */
import { spawnSync } from "node:child_process";
import { randomUUID } from "node:crypto";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type Platform, startPlatform } from "@pm/stack/platform";
import * as fc from "fast-check";
import { afterAll, beforeAll, expect, test } from "vitest";
import { type Client, logIn, type PatientAnswer, person } from "./client.ts";

const dataDir = mkdtempSync(join(tmpdir(), "pm-merging-"));
let platform: Platform;
let admin: Client;

beforeAll(async () => {
  platform = await startPlatform({ dataDir, durable: false, env: { auth: { ACCESS_TOKEN_SECONDS: "3600" } } });
  admin = await logIn(platform);
});
afterAll(async () => {
  await platform?.stop();
  rmSync(dataDir, { recursive: true, force: true });
});

type Body = PatientAnswer & { version: number; updatedAt: string; deletedAt?: string; mergedFrom?: string };

async function ask<Answer>(method: string, path: string, body?: unknown, status = 200, headers = {}): Promise<Answer> {
  const answer = await admin.send(method, path, body, headers);
  expect(answer.status, `${method} ${path}: ${answer.text}`).toBe(status);
  return answer.body as Answer;
}
const rpc = <Answer>(name: string, body: object) => ask<Answer>("POST", `/billing.v1.BillingService/${name}`, body);
const read = (id: string) => ask<Body>("GET", `/patients/${id}`);

/** A record, where it leads, and what was charged to its account. */
type Model = { id: string; accountId: string; parent?: Model | undefined; isDeleted: boolean; charged: number };
const rootOf = (model: Model): Model => (model.parent ? rootOf(model.parent) : model);
/** Deleted records are neither merged nor edited. */
const lives = (model: Model) => !model.parent && !model.isDeleted;

async function register(): Promise<Model> {
  const { id } = await ask<Body>("POST", "/patients", person(), 201);
  let accountId: string | undefined;
  await expect.poll(async () => (accountId = (await read(id)).billing.accountId), { timeout: 15_000 }).toBeDefined();
  return { id, accountId: accountId ?? "", isDeleted: false, charged: 0 };
}

async function merge(survivor: Model, duplicate: Model): Promise<void> {
  const [one, other] = [await read(survivor.id), await read(duplicate.id)];
  const body = { duplicateId: duplicate.id, duplicateVersion: other.version };
  await ask("POST", `/patients/${survivor.id}:merge`, body, 200, { "if-match": `"${one.version}"` });
  duplicate.parent = survivor;
}

async function unmerge(duplicate: Model): Promise<void> {
  await ask("POST", `/patients/${duplicate.parent?.id}:unmerge`, { duplicateId: duplicate.id });
  duplicate.parent = undefined;
}

/** What is the same before a merge and after it is undone. */
const content = ({ updatedAt: _, version: __, ...body }: Body) => body;

async function mergeAndBack(survivor: Model, duplicate: Model): Promise<void> {
  const before = [await read(survivor.id), await read(duplicate.id)];
  await merge(survivor, duplicate);
  await unmerge(duplicate);
  const after = [await read(survivor.id), await read(duplicate.id)];
  expect(after.map(content)).toEqual(before.map(content));
  expect(after[1]?.version).toBe(before[1]?.version);
}

/** While billing does not know of a merge yet, the merged account still takes charges: that is charged, too. */
async function charge(model: Model, cents: number): Promise<void> {
  const { accountId } = rootOf(model);
  const amount = { currencyCode: "EUR", minorUnits: String(cents) };
  await rpc("CreateCharge", { accountId, amount, description: "Visit", requestId: randomUUID() }).catch(async (error: unknown) => {
    // Or it does not know yet that one was undone.
    if (!/ACCOUNT_MERGED|merged into/.test(String(error))) throw error;
    await expect.poll(async () => (await ofPatient(rootOf(model).id)).account.accountId, { timeout: 15_000 }).toBe(accountId);
    await rpc("CreateCharge", { accountId, amount, description: "Visit", requestId: randomUUID() });
  });
  rootOf(model).charged += cents;
}

type AccountAnswer = {
  account: { accountId: string; balance: { minorUnits?: string } };
  linkedAccounts?: { accountId: string }[];
  totals?: { balance: { currencyCode: string; minorUnits?: string } }[];
};
const ofPatient = (patientId: string) => rpc<AccountAnswer>("GetBillingAccount", { patientId });

type Operation = {
  kind: "merge" | "unmerge" | "back" | "edit" | "charge" | "delete" | "restore";
  one: number;
  other: number;
  cents: number;
};
/** How often each is tried. Most tries of a restore or an unmerge find nothing that could be. */
const weights: Record<Operation["kind"], number> = { merge: 5, unmerge: 6, back: 3, edit: 2, charge: 4, delete: 1, restore: 6 };
const kinds = Object.entries(weights).flatMap(([kind, weight]) => Array(weight).fill(kind) as Operation["kind"][]);
const operations: fc.Arbitrary<Operation> = fc.record({
  kind: fc.constantFrom(...kinds),
  one: fc.nat(5),
  other: fc.nat(5),
  cents: fc.integer({ min: 1, max: 10_000 }),
});

async function carryOut({ kind, one, other, cents }: Operation, models: Model[]): Promise<boolean> {
  const [a, b] = [models[one] as Model, models[other] as Model];
  const areTwo = a !== b && lives(a) && lives(b);
  if (kind === "merge" && areTwo) await merge(a, b);
  else if (kind === "back" && areTwo) await mergeAndBack(a, b);
  else if (kind === "unmerge" && a.parent && lives(a.parent)) await unmerge(a);
  else if (kind === "edit" && lives(a)) await ask("PATCH", `/patients/${a.id}`, { generalPractitioner: `Dr. ${cents}` });
  else if (kind === "charge") await charge(a, cents);
  else if (kind === "delete" && lives(a)) {
    await ask("DELETE", `/patients/${a.id}`, undefined, 204);
    a.isDeleted = true;
  } else if (kind === "restore" && a.isDeleted) {
    await ask("POST", `/patients/${a.id}:restore`);
    a.isDeleted = false;
  } else return false;
  return true;
}

async function expectAgreement(models: Model[]): Promise<void> {
  for (const model of models) {
    const root = rootOf(model);
    if (root.isDeleted) await ask("GET", `/patients/${model.id}`, undefined, 404);
    else expect(await read(model.id)).toMatchObject({ id: root.id, ...(model !== root && { mergedFrom: model.id }) });
    const own = models.filter((each) => rootOf(each) === root);
    const sum = own.reduce((total, { charged }) => total + charged, 0);
    const seen = async () => {
      const { account, linkedAccounts = [], totals = [] } = await ofPatient(model.id);
      const balance = totals.length > 0 ? totals[0]?.balance : account.balance;
      return [account.accountId, linkedAccounts.map(({ accountId }) => accountId).sort(), Number(balance?.minorUnits ?? 0)];
    };
    const others = own.filter((each) => each !== root).map(({ accountId }) => accountId);
    await expect.poll(seen, { timeout: 15_000 }).toEqual([root.accountId, others.sort(), sum]);
  }
}

test("every id leads to one record, both accounts are seen as one, the ledger balances, and analytics agrees", {
  timeout: 400_000,
}, async () => {
  const everybody: Model[] = [];
  const counts = new Map<string, number>();
  const run = async (steps: Operation[]) => {
    const models = await Promise.all(Array.from({ length: 6 }, register));
    everybody.push(...models);
    for (const step of steps) if (await carryOut(step, models)) counts.set(step.kind, (counts.get(step.kind) ?? 0) + 1);
    await expectAgreement(models);
  };
  await fc.assert(fc.asyncProperty(fc.array(operations, { minLength: 50, maxLength: 80 }), run), { numRuns: 6, endOnFailure: true });

  const living = everybody.filter(lives).length;
  process.stdout.write(`${everybody.length} records, ${living} living; ${JSON.stringify(Object.fromEntries(counts))}\n`);
  const consistency = async () => (await admin.get("/analytics/consistency")).body;
  await expect.poll(consistency, { timeout: 60_000, interval: 1_000 }).toMatchObject({ drift: 0, settled: true, lag: 0, deadLetters: 0 });
  const { checks } = (await consistency()) as { checks: { name: string; here: string }[] };
  const counted = Object.fromEntries(checks.map(({ name, here }) => [name, here]));
  expect(counted).toMatchObject({
    "active patients": String(living),
    "merged patients": String(everybody.filter(({ parent }) => parent).length),
    "EUR outstanding": String(everybody.reduce((sum, { charged }) => sum + charged, 0)),
  });
  const { databaseUrl } = platform.databases.billing;
  const command = join(import.meta.dirname, "../../services/billing/src/commands/verify-ledger.ts");
  const verified = spawnSync(process.execPath, [command], { env: { ...process.env, DATABASE_URL: databaseUrl }, encoding: "utf8" });
  expect(verified.status, verified.stdout + verified.stderr).toBe(0);
});

/**
 * Access coverage. Every operation that an OpenAPI document or a proto descriptor lists answers 401 without a token and
 * 403 if the role lacks its scope, with an audit entry. The table of operations lists no operation that does not exist.
 */
import { randomUUID } from "node:crypto";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type Access, isForServicesOnly, operations, type Role, roles } from "@pm/kit/auth/access";
import { createServiceTokens } from "@pm/kit/auth/service-tokens";
import { BillingService } from "@pm/proto/billing/v1/billing";
import { BillingInternalService } from "@pm/proto/billing/v1/internal";
import type { ServiceName } from "@pm/stack/names";
import { query } from "@pm/stack/native/postgres";
import { type Platform, startPlatform } from "@pm/stack/platform";
import { afterAll, beforeAll, expect, test } from "vitest";
import { type Client, clientOf, logIn } from "./client.ts";

type Operation = { name: string; access: Access | undefined; method: string; url: string; body: unknown };

let platform: Platform;
let found: Operation[];
const tokens = new Map<Role, string>();
const dataDir = mkdtempSync(join(tmpdir(), "pm-access-"));

beforeAll(async () => {
  platform = await startPlatform({ dataDir, durable: false });
  const admin = await logIn(platform);
  for (const role of ["user", "billing", "analyst"] as const) tokens.set(role, await signInAs(admin, role));
  found = [
    ...(await Promise.all((["patient", "auth", "analytics", "billing", "fhir"] as const).map(restOperations))).flat(),
    ...rpcOperations(),
  ];
});
afterAll(async () => {
  await platform?.stop();
  rmSync(dataDir, { recursive: true, force: true });
});

async function signInAs(admin: Client, role: Role): Promise<string> {
  const credentials = { email: `${role}-${randomUUID()}@example.com`, password: `a long enough passphrase ${randomUUID()}` };
  const made = await admin.send("POST", "/auth/users", { ...credentials, roles: [role] });
  expect(made.status, made.text).toBe(201);
  return (await logIn(platform, credentials)).token;
}

async function restOperations(service: ServiceName): Promise<Operation[]> {
  const base = platform.services[service].url;
  const document = (await clientOf(base).get("/openapi-internal.json")).body as {
    paths: Record<string, Record<string, { operationId: string }>>;
  };
  return Object.entries(document.paths ?? {}).flatMap(([path, methods]) =>
    Object.entries(methods).map(([method, { operationId }]) => {
      const name = `${service}.${operationId}`;
      const url = `${base}${path.replace(/\{[^}]+\}/g, randomUUID())}`;
      const access = (operations as Record<string, Access>)[name];
      return { name, access, method: method.toUpperCase(), url, body: method === "get" ? undefined : {} };
    }),
  );
}

function rpcOperations(): Operation[] {
  return [...BillingService.methods, ...BillingInternalService.methods]
    .filter((method) => method.methodKind === "unary")
    .map((method) => {
      const name = `${method.parent.typeName}/${method.name}`;
      const access = (operations as Record<string, Access>)[name];
      return { name, access, method: "POST", url: `${platform.services.billing.url}/${name}`, body: {} };
    });
}

async function call({ method, url, body }: Operation, token?: string): Promise<number> {
  const { origin, pathname } = new URL(url);
  return (await clientOf(origin, token).send(method, pathname, body)).status;
}

/** How many refusals the audit trails of all services have. */
async function auditedRefusals(): Promise<number> {
  const text = "select count(*)::int as n from audit_entries where action = 'access.refused' and details->>'code' = 'permission_denied'";
  const counts = Object.values(platform.databases).map(({ databaseUrl }) =>
    query(databaseUrl, async (client) => (await client.query<{ n: number }>(text)).rows[0]?.n ?? 0),
  );
  return (await Promise.all(counts)).reduce((sum, n) => sum + n, 0);
}

test("every operation is in the table, and the table has no other ones", () => {
  const listed = found.map((operation) => operation.name);
  const streams = BillingService.methods
    .filter((method) => method.methodKind !== "unary")
    .map((method) => `${BillingService.typeName}/${method.name}`);
  expect(found.filter((operation) => operation.access === undefined)).toEqual([]);
  expect(Object.keys(operations).filter((name) => !listed.includes(name) && !streams.includes(name))).toEqual([]);
});

test("nobody gets 401 from every operation that is not public", async () => {
  const wrong: string[] = [];
  for (const operation of found.filter(({ access }) => access !== "public")) {
    const status = await call(operation);
    if (status !== 401) wrong.push(`${operation.name}: ${status}`);
  }
  expect(wrong).toEqual([]);
});

test("a role without the scope gets 403 from every operation that needs one, and leaves an audit entry", async () => {
  const wrong: string[] = [];
  let [asked, refused] = [0, 0];
  const before = await auditedRefusals();
  for (const operation of found) {
    const { access } = operation;
    if (access === undefined || access === "public" || access === "signed-in") continue;
    for (const [role, token] of tokens) {
      if ((roles[role] as readonly string[]).includes(access)) continue;
      asked += 1;
      const status = await call(operation, token);
      if (status === 403) refused += 1;
      // Users may ask for the account of a patient. Patient-service decides whether they see this patient, so the
      // answer is 404.
      const patientDecides = role === "user" && operation.name.endsWith("/GetBillingAccount");
      if (status !== 403 && !(patientDecides && [400, 404].includes(status))) wrong.push(`${operation.name} as ${role}: ${status}`);
    }
  }
  process.stdout.write(`${found.length} operations, ${asked} refusals asked for\n`);
  expect(asked).toBeGreaterThan(found.length / 2);
  expect(wrong).toEqual([]);
  expect((await auditedRefusals()) - before).toBe(refused);
});

test("a token of a service is good for its own scopes only, and no person has a service's scope", () => {
  const ofPeople = new Set(Object.values(roles).flat() as string[]);
  const onlyForServices = Object.values(operations).filter(isForServicesOnly);
  expect(onlyForServices.length).toBeGreaterThan(0);
  expect(onlyForServices.filter((scope) => ofPeople.has(scope))).toEqual([]);
});

test("at the gateway, a service's token opens nothing, and an operation for services only has no spelling", async () => {
  const clientSecret = platform.secrets.clientSecrets.analytics;
  const ofService = await createServiceTokens({ authUrl: platform.services.auth.url, clientId: "analytics", clientSecret })();
  const admin = (await logIn(platform)).token;
  const wrong: string[] = [];
  // 501 is gRPC's UNIMPLEMENTED: the gateway has no route to the service that the RPC belongs to.
  const refusals = [403, 404, 501];
  const ask = async (operation: Operation, path: string, token: string) => {
    const status = await call({ ...operation, url: `${platform.gatewayUrl}${path}` }, token);
    if (!refusals.includes(status)) wrong.push(`${operation.name} at ${path}: ${status}`);
  };
  for (const operation of found.filter(({ access }) => access !== "public")) {
    const path = new URL(operation.url).pathname;
    await ask(operation, path, ofService);
    if (operation.access === undefined || !isForServicesOnly(operation.access)) continue;
    for (const mark of [":", "/@", "/%40", "//@", "/./@", "/:", "%3A"])
      for (const token of [ofService, admin]) await ask(operation, path.replace(":", mark), token);
  }
  expect(wrong).toEqual([]);
});

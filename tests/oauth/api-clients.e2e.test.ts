/**
 * Programs that act without a person, through the gateway: openid-client and oauth4webapi get and check their tokens;
 * what they do in every service is theirs, and ends within a second of their being disabled.
 */
import { randomUUID } from "node:crypto";
import { mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { query } from "@pm/stack/native/postgres";
import { type Platform, startPlatform } from "@pm/stack/platform";
import { decodeJwt } from "jose";
import * as oauth from "oauth4webapi";
import * as openid from "openid-client";
import { afterAll, beforeAll, expect, test } from "vitest";
import { type Client, clientOf, logIn, type PatientAnswer, person } from "../e2e/client.ts";
import { type ApiClient, newKeys, register, tokenOf } from "./clients.ts";

let platform: Platform;
let admin: Client;
const dataDir = mkdtempSync(join(tmpdir(), "pm-oauth-"));
const audience = "patient-management";
/** What no log may contain. */
const secrets = new Set<string>();

beforeAll(async () => {
  platform = await startPlatform({ dataDir, durable: false, gateway: { LOGIN_RATE_PER_SECOND: "1000" } });
  admin = await logIn(platform);
});
afterAll(async () => {
  await platform?.stop();
  rmSync(dataDir, { recursive: true, force: true });
});

const all = ["patient:read", "patient:write", "patient:all", "billing:read", "billing:write", "analytics:read", "analytics:detail"];

/** Gets a token as openid-client does, which reads the metadata first. */
async function askByOpenidClient(id: string, proof: openid.ClientAuth, algorithm: "oidc" | "oauth2"): Promise<Client> {
  const execute = [openid.allowInsecureRequests];
  const config = await openid.discovery(new URL(platform.gatewayUrl), id, undefined, proof, { algorithm, execute });
  const { access_token, expires_in, scope } = await openid.clientCredentialsGrant(config, { scope: "patient:read" });
  expect({ expires_in, scope }).toEqual({ expires_in: 300, scope: "patient:read" });
  secrets.add(access_token);
  return clientOf(platform.gatewayUrl, access_token);
}

test("openid-client finds the metadata under both names, and gets tokens by secret and by key", { timeout: 120_000 }, async () => {
  const { id, secret } = await register(admin, { scopes: all });
  secrets.add(secret);
  const ways: [string, openid.ClientAuth][] = [
    [id, openid.ClientSecretBasic(secret)],
    [id, openid.ClientSecretPost(secret)],
  ];
  for (const alg of ["RS384", "ES384", "EdDSA"] as const) {
    const { privateKey: key, kid, jwks } = await newKeys(alg);
    ways.push([(await register(admin, { scopes: all, jwks })).id, openid.PrivateKeyJwt({ key, kid })]);
  }
  for (const [client, proof] of ways)
    for (const algorithm of ["oidc", "oauth2"] as const) {
      const program = await askByOpenidClient(client, proof, algorithm);
      expect((await program.get("/patients?limit=1")).status).toBe(200);
      expect((await program.send("POST", "/patients", person())).status).toBe(403);
    }
  const wrong = (proof: openid.ClientAuth) => askByOpenidClient(id, proof, "oauth2").catch((error: unknown) => error);
  expect(await wrong(openid.ClientSecretPost("a wrong secret"))).toMatchObject({ error: "invalid_client", status: 400 });
  expect(await wrong(openid.ClientSecretBasic("a wrong secret"))).toMatchObject({ cause: [{ scheme: "basic" }], status: 401 });
});

test("oauth4webapi accepts the tokens of programs and of people as RFC 9068 has them", async () => {
  const issuer = new URL(platform.gatewayUrl);
  const insecure = { [oauth.allowInsecureRequests]: true };
  for (const algorithm of ["oidc", "oauth2"] as const) {
    const server = await oauth.processDiscoveryResponse(issuer, await oauth.discoveryRequest(issuer, { algorithm, ...insecure }));
    const { privateKey: key, kid, jwks } = await newKeys("ES384");
    const client: oauth.Client = { client_id: (await register(admin, { scopes: all, jwks })).id };
    const proof = oauth.PrivateKeyJwt({ key, kid });
    const response = await oauth.clientCredentialsGrantRequest(server, client, proof, new URLSearchParams(), insecure);
    const { access_token } = await oauth.processClientCredentialsResponse(server, client, response);
    const check = (token: string) =>
      oauth.validateJwtAccessToken(
        server,
        new Request(`${issuer}patients`, { headers: { authorization: `Bearer ${token}` } }),
        audience,
        insecure,
      );
    const sub = `client:${client.client_id}`;
    expect(await check(access_token)).toMatchObject({ sub, client_id: client.client_id, scope: all.join(" ") });
    expect(await check(admin.token)).toMatchObject({ sub: decodeJwt(admin.token).sub, client_id: "first-party" });
  }
});

/** The actions that somebody has left in the audit trail of a service, in their order. */
const actionsOf = (service: keyof typeof platform.databases, actor: string) =>
  query(platform.databases[service].databaseUrl, async (client) => {
    const { rows } = await client.query<{ action: string }>("select action from audit_entries where actor = $1 order by id", [actor]);
    return rows.map(({ action }) => action);
  });

const rpc = (program: Client, method: string, body: object) => program.send("POST", `/billing.v1.BillingService/${method}`, body);

test("a client acts in patient, billing and analytics, and the audit trail of each has its id", async () => {
  const client = await register(admin, { scopes: all });
  const program = await tokenOf(platform, client);
  const made = await program.send("POST", "/patients", person());
  expect(made.status, made.text).toBe(201);
  const { id } = made.body as PatientAnswer;
  expect((await program.get(`/patients/${id}`)).status).toBe(200);
  await expect.poll(async () => (await rpc(program, "GetBillingAccount", { patientId: id })).status, { timeout: 10_000 }).toBe(200);
  const { account } = (await rpc(program, "GetBillingAccount", { patientId: id })).body as { account: { accountId: string } };
  const amount = { currencyCode: "EUR", minorUnits: "1000" };
  const charge = { accountId: account.accountId, amount, description: "Visit", requestId: randomUUID() };
  expect((await rpc(program, "CreateCharge", charge)).status).toBe(200);
  expect((await program.get("/analytics/summary")).status).toBe(200);
  for (const path of ["/auth/users", "/auth/clients", "/auth/me"]) expect([path, (await program.get(path)).status]).toEqual([path, 403]);

  const actor = `client:${client.id}`;
  expect(await actionsOf("auth", actor)).toEqual(expect.arrayContaining(["authn_token_created", "access.refused"]));
  expect(await actionsOf("patient", actor)).toEqual(expect.arrayContaining(["patient.registered", "patient.read"]));
  expect(await actionsOf("billing", actor)).toEqual(expect.arrayContaining(["account.read", "charge.created"]));
  expect(await actionsOf("analytics", actor)).toEqual(["report.read"]);
});

test("a client of a team sees what is shared with the team and what it registered, and nothing else", async () => {
  const { id: teamId } = (await admin.send("POST", "/auth/teams", { name: `Ward ${randomUUID()}` })).body as { id: string };
  const [shared, hidden] = await Promise.all(
    [1, 2].map(async () => (await admin.send("POST", "/patients", person())).body as PatientAnswer),
  );
  const access = await admin.send("PUT", `/patients/${shared?.id}/access`, { users: [], teams: [teamId] });
  expect(access.status, access.text).toBe(200);
  const client = await register(admin, { scopes: ["patient:read", "patient:write"], teamId });
  const program = await tokenOf(platform, client);
  const own = (await program.send("POST", "/patients", person())).body as PatientAnswer;
  const { items } = (await program.get("/patients")).body as { items: PatientAnswer[] };
  expect(items.map(({ id }) => id).sort()).toEqual([shared?.id, own.id].sort());
  expect((await program.get(`/patients/${hidden?.id}`)).status).toBe(404);
  expect((await program.get(`/patients/${own.id}/access`)).body).toMatchObject({ teams: [] });
  await expect.poll(async () => (await rpc(program, "GetBillingAccount", { patientId: shared?.id })).status, { timeout: 10_000 }).toBe(200);
  expect((await rpc(program, "GetBillingAccount", { patientId: hidden?.id })).status).toBe(404);

  // What a client registered has an owner after the client is gone.
  expect((await admin.send("DELETE", `/auth/clients/${client.id}`)).status).toBe(204);
  const transfer = await admin.send("POST", "/patients:transfer", { from: `client:${client.id}`, to: decodeJwt(admin.token).sub });
  expect(transfer.body).toEqual({ transferred: 1, remaining: 0 });
});

test("a service's own secret gets nothing at the gateway, whatever the request says of itself", async () => {
  const body = "grant_type=client_credentials";
  for (const [service, secret] of Object.entries(platform.secrets.clientSecrets)) {
    const authorization = `Basic ${Buffer.from(`${service}:${secret}`).toString("base64")}`;
    const headers = { authorization, "content-type": "application/x-www-form-urlencoded" };
    const inside = await clientOf(platform.services.auth.url).send("POST", "/auth/token", body, headers);
    expect(inside.status).toBe(200);
    for (const more of [{}, { "x-envoy-external-address": "" }, { connection: "x-envoy-external-address" }]) {
      const outside = await clientOf(platform.gatewayUrl).send("POST", "/auth/token", body, { ...headers, ...more });
      expect([outside.status, outside.body]).toMatchObject([401, { error: "invalid_client" }]);
    }
  }
});

/** One read of every service. Any answer except 401 means that the service accepted the token. */
const reads: Record<string, (program: Client) => Promise<{ status: number }>> = {
  auth: (program) => program.get("/auth/validate"),
  patient: (program) => program.get("/patients?limit=1"),
  billing: (program) => rpc(program, "GetBillingAccount", { patientId: randomUUID() }),
  analytics: (program) => program.get("/analytics/patients?interval=day"),
};

async function untilRefused(read: () => Promise<{ status: number }>, since: number): Promise<number> {
  for (;;) {
    const { status } = await read();
    const elapsed = performance.now() - since;
    if (status === 401) return elapsed;
    if (elapsed > 10_000) throw new Error(`still ${status} after ${Math.round(elapsed)} ms`);
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
}

test("a token is refused by every service in under a second after its client was disabled (p99)", { timeout: 180_000 }, async () => {
  const rounds = 30;
  const client: ApiClient = await register(admin, { scopes: all });
  const times: number[] = [];
  for (let round = 0; round < rounds; round++) {
    const program = await tokenOf(platform, client);
    for (const [service, read] of Object.entries(reads)) expect((await read(program)).status, service).not.toBe(401);
    const since = performance.now();
    expect((await admin.send("POST", `/auth/clients/${client.id}:disable`)).status).toBe(200);
    const refused = Object.values(reads).map((read) => untilRefused(() => read(program), since));
    times.push(...(await Promise.all(refused)));
    await admin.send("POST", `/auth/clients/${client.id}:enable`);
  }
  const sorted = times.toSorted((a, b) => a - b);
  const at = (share: number) => Math.round(sorted[Math.ceil(sorted.length * share) - 1] ?? Number.NaN);
  process.stdout.write(`revocation of a client through the gateway: p50 ${at(0.5)} ms, p99 ${at(0.99)} ms (${rounds} times)\n`);
  expect(at(0.99)).toBeLessThan(1_000);
});

test("no secret, assertion or token of a client is in any log", () => {
  const logs = join(dataDir, "logs");
  for (const file of readdirSync(logs).filter((name) => name.endsWith(".log"))) {
    const text = readFileSync(join(logs, file), "utf8");
    expect([file, [...secrets].filter((secret) => text.includes(secret))]).toEqual([file, []]);
  }
});

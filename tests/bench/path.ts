/** The path that every clinic walks: log in, create, read, list, open an account. Through the gateway and directly. */
import { randomUUID } from "node:crypto";
import { createClient } from "@connectrpc/connect";
import { createGrpcTransport } from "@connectrpc/connect-node";
import { createServiceTokens } from "@pm/kit/auth/service-tokens";
import { BillingService } from "@pm/proto/billing/v1/billing";
import { query } from "@pm/stack/native/postgres";
import { personAt } from "../seed/people.ts";
import type { Rows } from "./context.ts";
import type { Row } from "./measure.ts";

const run = randomUUID().slice(0, 8);

/** The people with smaller numbers are those of imports and of the million. Nobody is registered twice. */
let people = 5_000_000;

/**
 * Somebody whose name, address and day of birth hardly anybody else has. Five thousand people of one name and one
 * address would be 25,000 pairs that the job must compare, and that no clinic has.
 */
function person() {
  const number = people++;
  const { name, address, dateOfBirth } = personAt(number, 10_000_000).record;
  return { name, email: `bench-${run}-${number}@example.com`, address: address.text, dateOfBirth };
}

export const rows: Rows = async ({ platform, baselines, http, token }) => {
  const gateway = platform.gatewayUrl;
  const { patient, auth, billing } = platform.services;
  const create = (base: string) => () => http(base, "POST", "/patients", { body: person(), status: 201 });
  const ids: string[] = [];
  const fillIds = async () => {
    if (ids.length > 0) return;
    const page = JSON.parse(await http(gateway, "GET", "/patients?limit=50")) as { items: { id: string }[] };
    ids.push(...page.items.map((item) => item.id));
  };
  const get = (base: string) => (_: number, iteration: number) => http(base, "GET", `/patients/${ids[iteration % ids.length]}`);
  // Autovacuum analyzes within a minute after so many new rows. A row of the bench would be over before that.
  const analyze = async () => void (await query(platform.databases.patient.migrationDatabaseUrl, (client) => client.query("analyze")));
  const list = (base: string) => () => http(base, "GET", "/patients?limit=50");
  const login = (base: string) => () => http(base, "POST", "/auth/login", { body: platform.admin, anonymous: true });
  const clientSecret = platform.secrets.clientSecrets.patient;
  const patientToken = createServiceTokens({ authUrl: auth.url, clientId: "patient", clientSecret });
  const openAccount = (base: string, tokenOf: typeof token, patientOf: (iteration: number) => string): Row["request"] => {
    const client = createClient(BillingService, createGrpcTransport({ baseUrl: base }));
    return async (_, iteration) => {
      const { name, email } = person();
      const headers = { authorization: `Bearer ${await tokenOf()}` };
      return client.createBillingAccount({ patientId: patientOf(iteration), name, email, requestId: randomUUID() }, { headers });
    };
  };
  return [
    // Directly first: V8 and the JVM compile for most of a minute, and the aims are for warm processes.
    { name: "create patient, direct", warmUpSeconds: 12, request: create(patient.url) },
    {
      name: "create patient, gateway",
      warmUpSeconds: 12,
      request: create(gateway),
      baseline: baselines.insert,
      aims: { maxCpu: 16, minRate: 0.09 },
    },
    {
      name: "get patient, gateway",
      prepare: fillIds,
      request: get(gateway),
      baseline: baselines.envoy,
      aims: { maxCpu: 12 },
    },
    { name: "get patient, direct", prepare: fillIds, request: get(patient.url) },
    { name: "list 50 patients, gateway", prepare: analyze, request: list(gateway) },
    { name: "list 50 patients, direct", prepare: analyze, request: list(patient.url) },
    { name: "log in, gateway", concurrency: 4, request: login(gateway) },
    { name: "log in, direct", concurrency: 4, request: login(auth.url) },
    // A person names a patient whom they may see, who has an account. Patient-service opens those of new patients.
    {
      name: "CreateBillingAccount, gateway",
      prepare: fillIds,
      request: openAccount(gateway, token, (iteration) => ids[iteration % ids.length] as string),
    },
    { name: "CreateBillingAccount, direct", request: openAccount(billing.url, patientToken, () => randomUUID()) },
  ];
};

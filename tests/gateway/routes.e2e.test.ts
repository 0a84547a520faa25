import http from "node:http";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { type Gateway, startGateway } from "./gateway.ts";
import type { Arrival } from "./upstreams.ts";

let gateway: Gateway;
beforeAll(async () => {
  gateway = await startGateway();
});
afterAll(() => gateway.stop());

/** Sends a path unchanged. `fetch` would normalise it. */
function request(
  method: string,
  path: string,
  headers: Record<string, string> = {},
): Promise<{ status: number; type: string; body: string }> {
  return new Promise((resolve, reject) => {
    const outgoing = http.request(`${gateway.url}/`, { method, path, headers }, (answer) => {
      let body = "";
      answer.setEncoding("utf8").on("data", (chunk: string) => {
        body += chunk;
      });
      answer.on("end", () => resolve({ status: answer.statusCode ?? 0, type: answer.headers["content-type"] ?? "", body }));
    });
    outgoing.on("error", reject).end();
  });
}

/** Method and path of the client's request; the service that gets it; the path that arrives, if it differs. */
type Row = [request: string, service: string, arrives?: string];

const withoutToken: Row[] = [
  ["POST /auth/login", "auth"],
  ["POST /auth/signup", "auth"],
  ["POST /auth/refresh", "auth"],
  ["POST /auth/logout", "auth"],
  ["POST /auth/password-reset", "auth"],
  ["POST /auth/password-reset/confirm", "auth"],
  ["POST /auth/invites/accept", "auth"],
  ["POST /auth/token", "auth"],
  ["POST /auth//token", "auth", "/auth/token"],
  ["POST /api/auth/login", "auth", "/auth/login"],
  ["POST /api/auth/signup", "auth", "/auth/signup"],
  ["POST /api/auth/refresh", "auth", "/auth/refresh"],
  ["POST /api/auth/logout", "auth", "/auth/logout"],
  ["GET /.well-known/openid-configuration", "auth"],
  ["GET /.well-known/oauth-authorization-server", "auth"],
  ["GET /docs", "patient"],
  ["GET /docs/assets/page.js?v=1", "patient"],
  ["GET /openapi/patient.json", "patient", "/openapi.json"],
  ["GET /openapi/auth.json", "auth", "/openapi.json"],
  ["GET /openapi/analytics.json?pretty=1", "analytics", "/openapi.json?pretty=1"],
  ["GET /openapi/fhir.json", "fhir", "/openapi.json"],
  ["GET /fhir/R4/metadata", "fhir"],
  ["GET /fhir/R4/.well-known/smart-configuration", "fhir"],
  ["GET /api-docs/patients", "patient", "/openapi.json"],
  ["GET /api-docs/auth", "auth", "/openapi.json"],
  ["GET /analytics/dashboard", "analytics"],
  ["GET /analytics/dashboard?from=2026-01-01", "analytics"],
  ["POST /analytics/dashboard/login", "analytics"],
  ["POST /analytics/dashboard/logout", "analytics"],
];

const withToken: Row[] = [
  ["GET /auth/validate", "auth"],
  ["GET /auth/me", "auth"],
  ["GET /auth/sessions", "auth"],
  ["DELETE /auth/sessions/1", "auth"],
  ["GET /auth/users?q=a", "auth"],
  ["PATCH /auth/users/1", "auth"],
  ["POST /auth/users/1:disable", "auth"],
  ["GET /auth/people?ids=1", "auth"],
  ["GET /auth/teams", "auth"],
  ["PUT /auth/teams/1/members/2", "auth"],
  ["POST /auth/clients", "auth"],
  ["POST /auth/clients/1:rotateSecret", "auth"],
  ["POST /auth/keys:rotate", "auth"],
  ["POST /auth/password", "auth"],
  ["POST /auth/email", "auth"],
  ["POST /auth/mfa/totp", "auth"],
  ["POST /auth/invites", "auth"],
  ["GET /api/auth/validate", "auth", "/auth/validate"],
  ["GET /patients?limit=50&cursor=a%2Fb", "patient"],
  ["POST /patients", "patient"],
  ["GET /patients/1", "patient"],
  ["PUT /patients/1", "patient"],
  ["PATCH /patients/1", "patient"],
  ["DELETE /patients/1", "patient"],
  ["GET /patients/1/history", "patient"],
  ["GET /patients/1/versions/2", "patient"],
  ["GET /patients/changes?since=2026-01-28T09:30:00Z", "patient"],
  ["GET /patients/1/disclosures?format=csv", "patient"],
  ...["patient", "billing", "auth", "analytics"].flatMap((service): Row[] =>
    ["", ":export?format=csv", ":verify?from=1"].map((rest) => [`GET /audit/${service}${rest}`, service]),
  ),
  ["PUT /patients/1/access", "patient"],
  ["POST /patients/1:restore", "patient"],
  ["POST /patients/1:merge", "patient"],
  ["POST /patients/1:erase", "patient"],
  ["GET /patients/1/erasure", "patient"],
  ["PUT /patients/1/hold", "patient"],
  ["DELETE /patients/1/hold", "patient"],
  ["POST /patients:import?dryRun=true", "patient"],
  ["GET /patients:export", "patient"],
  ["POST /patients/exports", "patient"],
  ["GET /patients/exports/1", "patient"],
  ["GET /patients/exports/1/patients", "patient"],
  ["GET /api/patients/exports/1/deletions", "patient", "/patients/exports/1/deletions"],
  ["POST /patients:match", "patient"],
  ["POST /patients:search", "patient"],
  ["POST /patients:batch", "patient"],
  ["GET /patients/duplicates?state=open", "patient"],
  ["POST /patients/duplicates/1:dismiss", "patient"],
  ["POST /patients:transfer", "patient"],
  ["POST /api/patients:match", "patient", "/patients:match"],
  ["GET /api/patients", "patient", "/patients"],
  ["PUT /api/patients/1?x=/api", "patient", "/patients/1?x=/api"],
  ["GET //patients//1/./2/../history", "patient", "/patients/1/history"],
  ["POST /api/patients:import", "patient", "/patients:import"],
  ["POST /fhir/R4", "fhir"],
  ["POST /fhir/R4/", "fhir"],
  ["GET /fhir/R4/Patient?family=Lovelace", "fhir"],
  ["GET /fhir/R4/Patient/1/_history/2", "fhir"],
  ["GET /fhir/R4/AuditEvent?site=billing", "fhir"],
  ["POST /fhir/R4/Patient/_search", "fhir"],
  ["POST /fhir/R4/Patient/$match", "fhir"],
  ["GET /fhir/R4/$export", "fhir"],
  ["GET /fhir/R4/Group/1/$export?_type=Patient", "fhir"],
  ["GET /fhir/R4/exports/1?request=%24export", "fhir"],
  ["GET /fhir/R4/exports/1/Patient", "fhir"],
  ["DELETE /fhir/R4/exports/1", "fhir"],
  ["DELETE /fhir/R4/Patient?identifier=a%7Cb", "fhir"],
  ["GET /analytics/summary", "analytics"],
  ["GET /analytics/patients?interval=day", "analytics"],
  ["GET /analytics/consistency", "analytics"],
  ["POST /analytics:rebuild", "analytics"],
  ["POST /billing.v1.BillingService/AnyMethod", "billing"],
  ["POST /grpc.health.v1.Health/AnyMethod", "billing"],
  ["GET /billing/invoices/1", "billing"],
  ["GET /billing/invoices/1.pdf", "billing"],
  ["GET /billing/credit-notes/1", "billing"],
  ["GET /billing/journal?from=2026-01-01", "billing"],
  ["GET /billing/general-ledger", "billing"],
  ["GET /billing/tax-summary?from=2026-01-01", "billing"],
  ["GET /billing/statements/1?from=2026-01-01", "billing"],
  ["GET /billing/payers/1/statement?currency=EUR", "billing"],
];

async function arrivalOf(line: string, headers: Record<string, string>): Promise<Arrival> {
  const [method = "", path = ""] = line.split(" ");
  const { status, body } = await request(method, path, headers);
  expect(status).toBe(200);
  return JSON.parse(body) as Arrival;
}

const expected = ([line, service, arrives]: Row) => {
  const [method, path] = line.split(" ");
  return { service, method, path: arrives ?? path };
};

describe("without a token", () => {
  test.each(withoutToken)("%s reaches %s", async (...row) => {
    expect(await arrivalOf(row[0], {})).toMatchObject(expected(row));
  });

  test("the signing keys can be read", async () => {
    const answer = await fetch(`${gateway.url}/.well-known/jwks.json`);
    expect(await answer.json()).toEqual({ keys: gateway.keys.map(({ publicJwk }) => publicJwk) });
  });
});

describe("with a token", () => {
  test.each(withToken)("%s reaches %s, and 401 is what it answers without", async (...row) => {
    expect(await arrivalOf(row[0], gateway.signedIn)).toMatchObject(expected(row));
    const [method = "", path = ""] = row[0].split(" ");
    const type = path.includes(".v1.")
      ? "application/json"
      : path.startsWith("/fhir/")
        ? "application/fhir+json; fhirVersion=4.0"
        : "application/problem+json";
    expect(await request(method, path)).toMatchObject({ status: 401, type });
  });

  test("gRPC reaches billing over HTTP/2, Connect and its pages over HTTP/1.1", async () => {
    const call = "POST /billing.v1.BillingService/AnyMethod";
    for (const type of ["application/grpc", "application/grpc+proto"])
      expect(await arrivalOf(call, { ...gateway.signedIn, "content-type": type }), type).toMatchObject({ httpVersion: "2.0" });
    for (const type of ["application/json", "application/proto", "application/connect+json"])
      expect(await arrivalOf(call, { ...gateway.signedIn, "content-type": type }), type).toMatchObject({ httpVersion: "1.1" });
    expect(await arrivalOf("GET /billing/invoices/1", gateway.signedIn)).toMatchObject({ httpVersion: "1.1" });
  });
});

test.each([
  ["POST", "/api/auth/token"],
  ["POST", "/auth/token/x"],
  ["GET", "/auth/revocations"],
  ["GET", "/patients:ids"],
  ["POST", "/api/patients:totals"],
  ...["ids", "totals", "import"].flatMap((method) =>
    ["/@", "//@", "/%40", "//%40", "/./@", "/x/../@", "%3A", "%3a", "/:", "//:", "/%3A", "\\@", "/1/@", "/1%3A"].flatMap((mark) =>
      [`/patients${mark}${method}`, `//api//patients${mark}${method}`].map((path): [string, string] => ["GET", path]),
    ),
  ),
  ["GET", "/patients:%69ds"],
  ["POST", "/patients/1/@restore"],
  ["POST", "/auth/keys/@rotate"],
  ["POST", "/analytics/@rebuild"],
  ["GET", "/billing/@totals"],
  ["GET", "/erasures/0193b3f0-8c1a-7b6e-9d2f-3a4b5c6d7e8f"],
  ["GET", "/auth"],
  ["GET", "/auth/metrics"],
  ["GET", "/AUTH/ME"],
  ["POST", "/auth/login/x"],
  ["GET", "/auth/users-of-somebody"],
  ["GET", "/health/ready"],
  ["GET", "/health/live"],
  ["GET", "/metrics"],
  ["GET", "/openapi.json"],
  ["GET", "/openapi-internal.json"],
  ["GET", "/openapi/patient-internal.json"],
  ["GET", "/openapi/billing.json"],
  ["GET", "/drain"],
  ["GET", "/stats"],
  ["GET", "/api"],
  ["GET", "/api/analytics/summary"],
  ["GET", "/patientsx"],
  ["GET", "/docsx"],
  ["GET", "/billing"],
  ["GET", "/audit"],
  ["GET", "/audit/gateway"],
  ["GET", "/audit/patient/1"],
  ["GET", "/audit/patient:erase"],
  ["GET", "/"],
])("%s %s is no path of ours: 404 with and without a token", async (method, path) => {
  for (const headers of [{}, gateway.signedIn]) {
    const { status, type, body } = await request(method, path, headers);
    expect({ status, type }).toEqual({ status: 404, type: "application/problem+json" });
    expect(JSON.parse(body)).toMatchObject({ title: "Not found", status: 404, code: "not_found", requestId: expect.any(String) });
  }
});

test.each(["/patients/..%2f..%2fauth%2ftoken", "/patients%2f@ids", "/patients%2F%40ids", "/patients%5C@ids"])(
  "a slash that is hidden in a path is refused: %s",
  async (path) => {
    const { status, type } = await request("GET", path, gateway.signedIn);
    expect({ status, type }).toEqual({ status: 400, type: "application/problem+json" });
  },
);

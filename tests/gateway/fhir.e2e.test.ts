/** Errors that Envoy makes itself under /fhir: OperationOutcomes, with what FHIR calls each. */
import { afterAll, beforeAll, expect, test } from "vitest";
import { eventually, type Gateway, signToken, startGateway } from "./gateway.ts";

let gateway: Gateway;
beforeAll(async () => {
  gateway = await startGateway();
});
afterAll(() => gateway.stop());

const patient = "/fhir/R4/Patient";

/**
 * The status, the code of the only issue and the headers that matter of an answer, which must be an OperationOutcome.
 */
async function told(answer: Response) {
  const { resourceType, issue } = (await answer.json()) as { resourceType: string; issue: Record<string, unknown>[] };
  expect(answer.headers.get("content-type")).toBe("application/fhir+json; fhirVersion=4.0");
  expect(resourceType).toBe("OperationOutcome");
  expect(issue).toEqual([
    {
      severity: "error",
      code: expect.any(String),
      details: { text: expect.stringMatching(/^[A-Z`].*\.$/) },
      diagnostics: `Request ${answer.headers.get("x-request-id")}`,
    },
  ]);
  const [retry, bearer] = [answer.headers.get("retry-after"), answer.headers.get("www-authenticate")];
  return [answer.status, issue[0]?.code, ...(retry ? [`again in ${retry}`] : []), ...(answer.status === 401 ? [bearer] : [])];
}

test("nobody, a foreign token and a service are told so", async () => {
  const [key = expect.fail()] = gateway.keys;
  const foreign = await signToken(key, { audience: "another-system" });
  const ofService = await signToken(key, { subject: "service:analytics" });
  const as = (token: string) => fetch(`${gateway.url}${patient}`, { headers: { authorization: `Bearer ${token}` } });
  expect(await told(await fetch(`${gateway.url}${patient}`))).toEqual([401, "login", "Bearer"]);
  expect(await told(await as(foreign))).toEqual([401, "login", "Bearer"]);
  expect(await told(await as(ofService))).toEqual([403, "forbidden"]);
});

test("a path that is none, one that cannot be normalised, and a body that is too large", async () => {
  const { signedIn: headers, url } = gateway;
  expect(await told(await fetch(`${url}/fhir/R5/Patient`, { headers }))).toEqual([404, "not-found"]);
  expect(await told(await fetch(`${url}${patient}/:restore`, { headers }))).toEqual([404, "not-found"]);
  expect(await told(await fetch(`${url}${patient}/a%2Fb`, { headers }))).toEqual([400, "invalid"]);
  const body = new Uint8Array(1024 * 1024 + 1);
  expect(await told(await fetch(`${url}${patient}`, { method: "POST", headers, body }))).toEqual([413, "too-long"]);
});

test("a service that is down, and keys that are not there yet", async () => {
  const early = await startGateway({ down: ["auth", "fhir"] });
  const ask = () => fetch(`${early.url}${patient}`, { headers: early.signedIn });
  const answer = await ask();
  expect(((await answer.clone().json()) as { issue: [{ details: { text: string } }] }).issue[0].details.text).toContain("Tokens cannot");
  expect(await told(answer)).toEqual([503, "transient", "again in 1"]);
  await early.upstreams.auth.start();
  await eventually(
    async () => (await ask()).text(),
    (text) => text.includes("cannot be reached"),
    5_000,
  );
  expect(await told(await ask())).toEqual([503, "transient", "again in 1"]);
  await early.stop();
});

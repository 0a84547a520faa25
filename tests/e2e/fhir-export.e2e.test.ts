/** Bulk Data as a client sees it: kick-off, status, files and cancellation, through the gateway. */
import { afterAll, beforeAll, expect, test } from "vitest";
import { admin, platform, startWithAdmin, stopPlatform } from "./admin.ts";
import { type Client, clientOf, logIn, person } from "./client.ts";

beforeAll(startWithAdmin);
afterAll(stopPlatform);

const asynchronously = { prefer: "respond-async", accept: "application/fhir+json" };
const root = () => `${platform.gatewayUrl}/fhir/R4`;
const pathOf = (url: string) => url.replace(platform.gatewayUrl, "");

type File = { type: string; url: string };
type Manifest = { transactionTime: string; request: string; requiresAccessToken: boolean; output: File[]; deleted: File[]; error: File[] };

async function kickOff(path: string, who = admin, headers: Record<string, string> = asynchronously): Promise<string> {
  const answer = await who.get(`/fhir/R4/${path}`, headers);
  expect([answer.status, answer.text]).toEqual([202, ""]);
  return answer.headers.get("content-location") ?? "";
}
async function manifestOf(statusUrl: string, who = admin): Promise<Manifest> {
  const { status, headers, body } = await who.get(pathOf(statusUrl), { accept: "application/json" });
  expect([status, Number.isNaN(Date.parse(headers.get("expires") ?? ""))]).toEqual([200, false]);
  return body as Manifest;
}
async function linesOf(url: string, who = admin): Promise<ReturnType<typeof JSON.parse>[]> {
  const { status, headers, text } = await who.get(pathOf(url), { accept: "application/fhir+ndjson" });
  expect([status, headers.get("content-type")]).toEqual([200, "application/fhir+ndjson"]);
  return text.split("\n").filter(Boolean).map((line) => JSON.parse(line)); // biome-ignore format: one chain
}
const create = async (who = admin) => (await who.send("POST", "/patients", person())).body as { id: string; name: string };
const cancel = (statusUrl: string, who = admin) => who.send("DELETE", pathOf(statusUrl));
const idsOf = (resources: { id: string }[]) => resources.map(({ id }) => id);

async function newUser(team?: string): Promise<Client & { id: string }> {
  const credentials = { email: `export.${crypto.randomUUID()}@example.com`, password: `a long passphrase ${crypto.randomUUID()}` };
  const { id } = (await admin.send("POST", "/auth/users", { ...credentials, roles: ["user"] })).body as { id: string };
  if (team !== undefined) expect((await admin.send("PUT", `/auth/teams/${team}/members/${id}`)).status).toBe(204);
  return { ...(await logIn(platform, credentials)), id };
}

test("an export of the system has all patients as they were at the kick-off, then only what changed", async () => {
  const [one, two] = [await create(), await create()];
  const statusUrl = await kickOff("$export?_outputFormat=ndjson");
  await admin.send("PATCH", `/patients/${one.id}`, { name: "Changed Since" });
  const manifest = await manifestOf(statusUrl);
  expect(manifest).toMatchObject({ request: `${root()}/$export?_outputFormat=ndjson`, requiresAccessToken: true, deleted: [], error: [] });
  expect(manifest.output.map(({ type }) => type)).toContain("Patient");
  const patients = await linesOf(manifest.output.find(({ type }) => type === "Patient")?.url ?? "");
  expect(idsOf(patients)).toEqual([one.id, two.id]);
  expect(patients[0]).toMatchObject({ resourceType: "Patient", meta: { versionId: "1" }, name: [{ text: one.name }] });
  expect((await cancel(statusUrl)).status).toBe(202);

  await admin.send("DELETE", `/patients/${two.id}`);
  const since = encodeURIComponent(manifest.transactionTime);
  const next = await manifestOf(await kickOff(`Patient/$export?_type=Patient&_since=${since}`));
  const [changed] = await linesOf(next.output[0]?.url ?? "");
  expect(changed).toMatchObject({ id: one.id, meta: { versionId: "2" }, name: [{ text: "Changed Since" }] });
  expect(next.deleted.map(({ type }) => type)).toEqual(["Bundle"]);
  expect(await linesOf(next.deleted[0]?.url ?? "")).toMatchObject([
    { resourceType: "Bundle", type: "transaction", entry: [{ request: { method: "DELETE", url: `Patient/${two.id}` } }] },
  ]);
});

test("an export of a group has the patients who are shared with the team, for its members and no other caller", async () => {
  const { id: team } = (await admin.send("POST", "/auth/teams", { name: "Ward 7" })).body as { id: string };
  const [user, stranger] = [await newUser(team), await newUser()];
  const [own, shared] = [await create(user), await create(user)];
  await user.send("PUT", `/patients/${shared.id}/access`, { users: [], teams: [team] });
  const patientsOf = async (path: string) => linesOf((await manifestOf(await kickOff(path, user), user)).output[0]?.url ?? "", user);
  expect(idsOf(await patientsOf(`Group/${team}/$export`))).toEqual([shared.id]);
  expect(idsOf(await patientsOf("Patient/$export"))).toEqual([own.id, shared.id]);
  for (const [caller, id] of [
    [user, crypto.randomUUID()],
    [stranger, team],
  ] as const) {
    const unknown = await caller.get(`/fhir/R4/Group/${id}/$export`, asynchronously);
    expect(unknown).toMatchObject({ status: 404, body: { resourceType: "OperationOutcome" } });
  }
});

test("status, files and cancellation are the caller's own; a cancelled export is gone", async () => {
  const [user, stranger] = [await newUser(), await newUser()];
  const statusUrl = await kickOff("Patient/$export", user);
  const { output } = await manifestOf(statusUrl, user);
  const file = pathOf(output[0]?.url ?? "");
  for (const path of [pathOf(statusUrl), file]) {
    expect(await stranger.get(path)).toMatchObject({ status: 404, body: { resourceType: "OperationOutcome" } });
    expect((await clientOf(platform.gatewayUrl).get(path)).status).toBe(401);
  }
  expect((await cancel(statusUrl, stranger)).status).toBe(404);
  expect((await cancel(statusUrl, user)).status).toBe(202);
  for (const path of [pathOf(statusUrl), file]) expect((await user.get(path)).status).toBe(404);
  expect((await cancel(statusUrl, user)).status).toBe(404);
});

test("a third export is 429 with Retry-After", async () => {
  const user = await newUser();
  for (let count = 0; count < 2; count++) await kickOff("$export", user);
  const refused = await user.get("/fhir/R4/$export", asynchronously);
  expect(refused).toMatchObject({ status: 429, body: { resourceType: "OperationOutcome", issue: [{ code: "throttled" }] } });
  expect(Number(refused.headers.get("retry-after"))).toBeGreaterThan(0);
});

test("what is wrong or not supported is refused by name, and ignored if the caller asks for that", async () => {
  const user = await newUser();
  const ask = (query: string, headers: Record<string, string> = asynchronously) => user.get(`/fhir/R4/Patient/$export${query}`, headers);
  for (const [query, name] of [
    ["?_type=Patient,Observation", "_type"],
    ["?_type=Patient&_type=RelatedPerson", "_type"],
    ["?_outputFormat=text/csv", "_outputFormat"],
    ["?_since=yesterday", "_since"],
    ["?_typeFilter=Patient%3Factive%3Dtrue", "_typeFilter"],
    ["?colour=blue", "colour"],
  ]) {
    const { status, text } = await ask(query ?? "");
    expect([query, status, text.includes(`"text":"${name}: `)]).toEqual([query, 400, true]);
  }
  expect((await ask("", {})).text).toContain("prefer: must be respond-async");
  expect((await ask("", { ...asynchronously, accept: "application/fhir+xml" })).status).toBe(406);
  const lenient = { ...asynchronously, prefer: "respond-async, handling=lenient" };
  const { output, error } = await manifestOf(await kickOff("Patient/$export?_type=Patient,Observation&colour=blue", user, lenient), user);
  expect(output.map(({ type }) => type)).toEqual(["Patient"]);
  expect(await linesOf(error[0]?.url ?? "", user)).toMatchObject([
    { resourceType: "OperationOutcome", issue: [{ severity: "information" }] },
  ]);
});

test("the CapabilityStatement names the export at each level", async () => {
  const { rest } = (await admin.get("/fhir/R4/metadata")).body as ReturnType<typeof JSON.parse>;
  const ofType = (type: string) => rest[0].resource.find((one: { type: string }) => one.type === type).operation;
  for (const operations of [rest[0].operation, ofType("Patient"), ofType("Group")])
    expect(operations.map(({ name }: { name: string }) => name)).toContain("export");
});

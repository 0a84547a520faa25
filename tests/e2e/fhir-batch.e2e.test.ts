/** Batches through the gateway: each request has an outcome of its own. */
import { afterAll, beforeAll, expect, test } from "vitest";
import { admin, startWithAdmin, stopPlatform } from "./admin.ts";
import { fhirPatient as patient } from "./client.ts";

beforeAll(startWithAdmin);
afterAll(stopPlatform);

const post = async (entry: unknown, type = "batch", base = "/fhir/R4") => {
  const answer = await admin.send("POST", base, { resourceType: "Bundle", type, entry }, { "content-type": "application/fhir+json" });
  return { status: answer.status, body: answer.body as ReturnType<typeof JSON.parse> };
};

test("each request of a batch has its own outcome, in order, and a failure stops none of the others", async () => {
  const identifier = { system: "urn:oid:1.2.3", value: crypto.randomUUID() };
  const created = await post([
    { resource: patient("Batchwood", { identifier: [identifier] }), request: { method: "POST", url: "Patient" } },
    { resource: patient("Wrong", { birthDate: "yesterday" }), request: { method: "POST", url: "Patient" } },
    { request: { method: "GET", url: `Patient?identifier=${identifier.system}|${identifier.value}` } },
    {
      resource: patient("Other"),
      request: { method: "POST", url: "Patient", ifNoneExist: `identifier=${identifier.system}|${identifier.value}` },
    },
    { request: { method: "GET", url: `Patient/${crypto.randomUUID()}` } },
    { request: { method: "GET", url: "Patient/$export" } },
    { request: { method: "GET", url: "exports/1/Patient" } },
    { request: { method: "GET", url: "metadata" } },
  ]);
  expect(created).toMatchObject({ status: 200, body: { resourceType: "Bundle", type: "batch-response" } });
  const { entry } = created.body;
  const { id } = entry[0].resource;
  expect(entry.map(({ response }: { response: { status: string } }) => response.status.slice(0, 3))).toEqual(
    ["201", "422", "200", "422", "404", "400", "400", "400"], // biome-ignore format: a list
  );
  expect(entry[0].response).toMatchObject({
    status: "201 Created",
    location: expect.stringContaining(`/Patient/${id}/_history/1`),
    etag: 'W/"1"',
  });
  expect(entry[1].response.outcome.issue[0].expression).toEqual(["Patient.birthDate"]);
  expect(entry[2].resource).toMatchObject({ type: "searchset", entry: [{ resource: { id } }] });

  const patch = Buffer.from(JSON.stringify([{ op: "add", path: "/gender", value: "female" }])).toString("base64");
  const changed = await post([
    {
      resource: { resourceType: "Binary", contentType: "application/json-patch+json", data: patch },
      request: { method: "PATCH", url: `Patient/${id}` },
    },
    { resource: patient("Lost", { id }), request: { method: "PUT", url: `Patient/${id}`, ifMatch: 'W/"1"' } },
    { request: { method: "GET", url: `Patient/${id}`, ifNoneMatch: 'W/"2"' } },
    { request: { method: "DELETE", url: `Patient/${id}` } },
    { request: { method: "GET", url: `Patient/${id}` } },
  ]);
  expect(changed.body.entry.map(({ response }: { response: { status: string } }) => response.status)).toEqual([
    "200 OK",
    "412",
    "304 Not Modified",
    "204 No Content",
    "410",
  ]);
  expect(changed.body.entry[0].resource).toMatchObject({ gender: "female", meta: { versionId: "2" } });
});

test("a Bundle of another type and one that is too long are refused", async () => {
  for (const [entry, type] of [
    [[], "searchset"],
    [Array(101).fill({ request: { method: "GET", url: "Patient/1" } }), "batch"],
  ] as const)
    expect(await post(entry, type)).toMatchObject({ status: 400, body: { resourceType: "OperationOutcome" } });
  expect((await post([])).body).toEqual({ resourceType: "Bundle", type: "batch-response" });
});

test("an e-mail and an identifier that are taken are named by their elements; the base may end in a slash", async () => {
  const identifier = [{ system: "urn:oid:1.2.3", value: crypto.randomUUID() }];
  const [first, other] = [patient("Takenwood"), patient("Otherwood", { identifier })];
  const { status, body } = await post(
    [first, first, other, patient("Thirdwood", { identifier })].map((resource) => ({
      resource,
      request: { method: "POST", url: "Patient" },
    })),
    "batch",
    "/fhir/R4/",
  );
  expect(status).toBe(200);
  expect(
    body.entry.map(({ response }: ReturnType<typeof JSON.parse>) => [response.status.slice(0, 3), response.outcome?.issue[0].expression]),
  ).toEqual([
    ["201", undefined],
    ["409", ["Patient.telecom.where(system='email')"]],
    ["201", undefined],
    ["409", ["Patient.identifier[0]"]],
  ]);
});

/** Batches, with nothing behind this service: each entry still has an outcome of its own. */
import { expect, test } from "vitest";
import { carryOut } from "../src/bundles/batch.ts";
import { testApp } from "./testing.ts";

type Answer = { type: string; entry: { response: { status: string; outcome: { resourceType: string } } }[] };

async function outcomesOf(entry: object[], base = "/fhir/R4"): Promise<Answer> {
  const answer = await testApp().request(base, {
    method: "POST",
    headers: { authorization: "Bearer x", "content-type": "application/fhir+json" },
    body: JSON.stringify({ resourceType: "Bundle", type: "batch", entry }),
  });
  expect(answer.status).toBe(200);
  return (await answer.json()) as Answer;
}
const statusesOf = ({ entry }: Answer) => entry.map(({ response }) => response.status.slice(0, 3));

test("a Bundle may be sent to the base with a slash", async () => {
  const entry = [{ request: { method: "GET", url: "Patient/1" } }];
  expect(statusesOf(await outcomesOf(entry, "/fhir/R4/"))).toEqual(["503"]);
});

test("each request of a batch is carried out by itself, and what is none of a resource is refused", async () => {
  const entry = [
    { request: { method: "GET", url: "Patient/1" } },
    { resource: { resourceType: "Patient", birthDate: "yesterday" }, request: { method: "POST", url: "Patient" } },
    { resource: { resourceType: "Binary", data: btoa("{}") }, request: { method: "PATCH", url: "Patient/1" } },
    ...["exports/1/Patient", "Patient/$export", "Group/1/%24export?_type=Patient", "metadata", "https://example.com/"].map((url) => ({
      request: { method: "GET", url },
    })),
  ];
  const bundle = await outcomesOf(entry);
  expect(bundle.type).toBe("batch-response");
  expect(statusesOf(bundle)).toEqual(["503", "422", "400", ...Array(5).fill("400")]);
  expect(bundle.entry.every(({ response }) => response.outcome.resourceType === "OperationOutcome")).toBe(true);
});

const unexpected = (error: unknown) => {
  throw error;
};

const escapes = [
  ...["Patient/../exports/1/Patient", "Patient/%2e%2e/exports/1/Patient", "Patient/.%2E/exports/1", "Patient\\..\\exports\\1"],
  ...["Patient/../../../metrics", "Patient/..\\..\\..\\openapi-internal.json", "Patient/.\t./metadata", "Patient/../../R4"],
  ...["https://x/fhir/R4/Patient/1", "http://localhost/fhir/R4/Patient/1", "//localhost/fhir/R4/Patient/1", "\\\\localhost\\Patient/1"],
  ...["Patient/../Patient/$export", "Group/1/x/../$export", "Patient/../../..", "Patient:x", "?name=x", "/", "../R4/Patient/1"],
];
test.each(escapes)("the address %s is that of no resource, so a batch refuses it", async (url) => {
  expect(statusesOf(await outcomesOf([{ request: { method: "GET", url } }]))).toEqual(["400"]);
});

test("an address is sent as it was tested", async () => {
  const asked: string[] = [];
  const send = (async (_method, path) => {
    asked.push(path);
    return new Response(null);
  }) satisfies Parameters<typeof carryOut>[1];
  for (const url of ["/Patient/1", "Patient?name=a/../b&x=%7C", "Group/1/../2", "Patient/1#there"])
    await carryOut({ request: { method: "GET", url } }, send, unexpected);
  expect(asked).toEqual(["/fhir/R4/Patient/1", "/fhir/R4/Patient?name=a/../b&x=%7C", "/fhir/R4/Group/2", "/fhir/R4/Patient/1"]);
});

test("an odd entry has an outcome of its own, and the others are carried out", async () => {
  const resource = { resourceType: "Patient" };
  const bundle = await outcomesOf([
    { resource, request: { method: "GET", url: "Patient/1" } },
    { resource, request: { method: "DELETE", url: "Patient/0193b3f0-8c1a-7b6e-9d2f-3a4b5c6d7e8f" } },
    { resource, request: { method: "POST", url: "Patient", ifNoneExist: "identifier=urn:x|Łódź\r\nx-roles: admin" } },
    { resource, request: { method: "PUT", url: "Patient/1", ifMatch: 'W/"1"\n' } },
    { resource, request: { method: "PUT", url: "Patient/1", ifMatch: "☃" } },
    { request: { method: "GET", url: "Patient/1", ifModifiedSince: "yesterday" } },
    { request: { method: "PUT", url: "Patient/1" } },
    { resource: { resourceType: "Binary", data: 5 }, request: { method: "PATCH", url: "Patient/1" } },
    { request: { method: "GET", url: "Patient/1" } },
  ]);
  expect(statusesOf(bundle)).toEqual(["503", "503", "412", "400", "400", "503", "400", "400", "503"]);
  expect(bundle.entry.every(({ response }) => response.outcome.resourceType === "OperationOutcome")).toBe(true);
});

test("a condition reaches the server as it was written, whatever its letters are", async () => {
  let sent = "";
  const send = (async (_method, _path, headers) => {
    sent = headers.get("if-none-exist") ?? "";
    return new Response(null);
  }) satisfies Parameters<typeof carryOut>[1];
  await carryOut({ request: { method: "POST", url: "Patient", ifNoneExist: "identifier=urn:x|Łódź 1%7C" } }, send, unexpected);
  expect(sent).toMatch(/^[!-~]+$/);
  expect(new URLSearchParams(sent).get("identifier")).toBe("urn:x|Łódź 1|");
});

test("an answer that is no JSON is an error of the server, of this entry alone", async () => {
  const entry = { request: { method: "GET", url: "Patient/1" } } as const;
  for (const send of [async () => new Response("<html>"), async () => Promise.reject(new Error("secret"))]) {
    const failures: unknown[] = [];
    const { resource, response } = await carryOut(entry, send, (error) => failures.push(error));
    expect([resource, response?.status]).toEqual([undefined, "500 Internal Server Error"]);
    expect(failures).toEqual([expect.any(Error)]);
    expect(JSON.stringify(response?.outcome)).not.toMatch(/secret|html/);
  }
});

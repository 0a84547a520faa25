/** Batches, with nothing behind this service: each entry still has an outcome of its own. */
import { expect, test } from "vitest";
import { testApp } from "./testing.ts";

test("each request of a batch is carried out by itself, and what is none of a resource is refused", async () => {
  const entry = [
    { request: { method: "GET", url: "Patient/1" } },
    { resource: { resourceType: "Patient", birthDate: "yesterday" }, request: { method: "POST", url: "Patient" } },
    { resource: { resourceType: "Binary", data: btoa("{}") }, request: { method: "PATCH", url: "Patient/1" } },
    ...["exports/1/Patient", "Patient/$export", "Group/1/%24export?_type=Patient", "metadata", "https://example.com/"].map((url) => ({
      request: { method: "GET", url },
    })),
  ];
  const answer = await testApp().request("/fhir/R4", {
    method: "POST",
    headers: { authorization: "Bearer x", "content-type": "application/fhir+json" },
    body: JSON.stringify({ resourceType: "Bundle", type: "batch", entry }),
  });
  expect(answer.status).toBe(200);
  const bundle = (await answer.json()) as { type: string; entry: { response: { status: string; outcome: { resourceType: string } } }[] };
  expect(bundle.type).toBe("batch-response");
  expect(bundle.entry.map(({ response }) => response.status.slice(0, 3))).toEqual(["503", "422", "400", ...Array(5).fill("400")]);
  expect(bundle.entry.every(({ response }) => response.outcome.resourceType === "OperationOutcome")).toBe(true);
});

/** Errors, with nothing behind this service. */
import { expect, test } from "vitest";
import { fromProblem } from "../src/protocol/outcome.ts";
import { testApp } from "./testing.ts";

test("an error says by diagnostics what is wrong and where, because some clients show nothing else", async () => {
  const answer = await testApp().request("/fhir/R4/Patient", {
    method: "POST",
    headers: { authorization: "Bearer x", "content-type": "application/fhir+json", "x-request-id": "7f9c2ba4-e88f-4b3a-a6c5-3f1d2b4c5a69" },
    body: JSON.stringify({ resourceType: "Patient", identifier: [{ value: "1" }] }),
  });
  const { issue } = (await answer.json()) as { issue: object[] };
  expect(issue).toMatchObject([
    {
      details: { text: "is required" },
      diagnostics: "Patient.identifier[0].system: is required (request 7f9c2ba4-e88f-4b3a-a6c5-3f1d2b4c5a69)",
      expression: ["Patient.identifier[0].system"],
    },
  ]);
});

test("what another service says of its cursor is said of _cursor", () => {
  const errors = [{ path: "cursor", message: "is not a cursor of this list; ask for the first page again" }];
  const text = JSON.stringify({ code: "invalid_argument", detail: "cursor: is wrong.", errors });
  expect(fromProblem({ status: 400, headers: {}, text }, "/patients:search").options.errors).toMatchObject([{ path: "_cursor" }]);
});

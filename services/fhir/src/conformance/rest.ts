/** How the server describes itself. */
import { createRoute } from "@hono/zod-openapi";
import type { RestApp } from "@pm/kit/http/rest";
import { errorAnswers } from "@pm/kit/http/schemas";
import type { Capability, Operation } from "../rest/capability.ts";
import { answerWith, fhirAnswer, requireJson, resourceSchema, root } from "../rest/resource.ts";
import { capabilityStatement } from "./capability-statement.ts";

const readMetadata = createRoute({
  operationId: "readMetadata",
  method: "get",
  path: `${root}/metadata`,
  tags: ["Conformance"],
  summary: "Read what this server can do",
  responses: {
    200: fhirAnswer(
      resourceSchema("CapabilityStatement", capabilityStatement("https://example.com/fhir/R4", [])),
      "The CapabilityStatement",
    ),
    ...errorAnswers("not_acceptable"),
  },
});

/** `base` is the URL of this API, as clients call it. */
type Parts = { base: string; capabilities: Capability[]; operations: Operation[] };

export function registerConformance({ operation }: RestApp, { base, capabilities, operations }: Parts): void {
  const statement = capabilityStatement(base, capabilities, operations);
  operation(readMetadata, (c) => {
    requireJson(c);
    return answerWith(c, statement);
  });
}

/** How the server describes itself. */
import { createRoute } from "@hono/zod-openapi";
import type { RestApp } from "@pm/kit/http/rest";
import { errorAnswers } from "@pm/kit/http/schemas";
import type { Capability } from "../rest/capability.ts";
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

/** @param base the URL of this API, as clients call it */
export function registerConformance({ operation }: RestApp, { base, capabilities }: { base: string; capabilities: Capability[] }): void {
  const statement = capabilityStatement(base, capabilities);
  operation(readMetadata, (c) => {
    requireJson(c);
    return answerWith(c, statement);
  });
}

/** How the server describes itself. */
import { createRoute, z } from "@hono/zod-openapi";
import type { RestApp } from "@pm/kit/http/rest";
import { errorAnswers, jsonAnswer } from "@pm/kit/http/schemas";
import { type Ask, callOf } from "../protocol/calls.ts";
import { type Capability, capability, type Operation } from "../protocol/capability.ts";
import { answerWith, fhirAnswer, requireJson, resourceSchema, root } from "../protocol/resource.ts";
import { capabilityStatement } from "./capability-statement.ts";

const exampleStatement = capabilityStatement("https://example.com/fhir/R4", [capability("Patient", ["read", "search-type"])]);
const readMetadata = createRoute({
  operationId: "readMetadata",
  method: "get",
  path: `${root}/metadata`,
  tags: ["Conformance"],
  summary: "Read what this server can do",
  responses: {
    200: fhirAnswer(resourceSchema("CapabilityStatement", exampleStatement), "The CapabilityStatement"),
    ...errorAnswers("not_acceptable"),
  },
});

const exampleSmart = {
  issuer: "https://example.com",
  token_endpoint: "https://example.com/auth/token",
  grant_types_supported: ["client_credentials"],
  capabilities: ["client-confidential-asymmetric"],
};
const readSmartConfiguration = createRoute({
  operationId: "readSmartConfiguration",
  method: "get",
  path: `${root}/.well-known/smart-configuration`,
  tags: ["Conformance"],
  summary: "Read how a program gets an access token (SMART Backend Services)",
  description: "What auth publishes of itself (RFC 8414), in the words of SMART App Launch. People do not sign in by SMART here.",
  responses: {
    200: jsonAnswer(z.looseObject({ token_endpoint: z.string() }).openapi("SmartConfiguration", { example: exampleSmart }), "The metadata"),
    ...errorAnswers("resource_exhausted"),
  },
});

/** What SMART has a word for. */
const smartFields = [
  ...["issuer", "jwks_uri", "token_endpoint", "token_endpoint_auth_methods_supported", "token_endpoint_auth_signing_alg_values_supported"],
  ...["grant_types_supported", "scopes_supported"],
];

/** `base` is the URL of this API, as clients call it. */
type Parts = { base: string; capabilities: Capability[]; operations: Operation[]; auth: Ask };

export function registerConformance({ operation }: RestApp, { base, capabilities, operations, auth }: Parts): void {
  const statement = capabilityStatement(base, capabilities, operations);

  operation(readSmartConfiguration, async (c) => {
    const path = "/.well-known/oauth-authorization-server";
    const metadata = (await auth(callOf(c), path, path)) as Record<string, unknown> & { token_endpoint: string };
    const known = Object.fromEntries(smartFields.map((name) => [name, metadata[name]]));
    return c.json({ ...known, token_endpoint: metadata.token_endpoint, capabilities: ["client-confidential-asymmetric"] }, 200);
  });

  operation(readMetadata, (c) => {
    requireJson(c);
    return answerWith(c, statement);
  });
}

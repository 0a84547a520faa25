/**
 * Bundles of requests: batches, whose entries stand alone, and transactions, which are done as a whole or not at all.
 */
import { createRoute, z } from "@hono/zod-openapi";
import type { RestApp, RestContext } from "@pm/kit/http/rest";
import { errorAnswers } from "@pm/kit/http/schemas";
import type { Bundle, BundleEntry } from "fhir/r4.js";
import { examplePatient } from "../patients/mapping.ts";
import { callOf } from "../protocol/calls.ts";
import { preferencesOf } from "../protocol/conditions.ts";
import { answerWith, fhirAnswer, fhirBody, requireJson, root } from "../protocol/resource.ts";
import { carryOut, type Send } from "./batch.ts";
import type { Transactions } from "./transaction.ts";

const maxEntries = 100;

const { id, meta: _meta, ...newPatient } = examplePatient;
const BundleSchema = z
  .looseObject({
    resourceType: z.literal("Bundle"),
    type: z.enum(["batch", "transaction"]),
    entry: z
      .array(
        z.looseObject({
          fullUrl: z.string().optional(),
          resource: z.looseObject({ resourceType: z.string() }).optional(),
          request: z.looseObject({
            method: z.enum(["GET", "POST", "PUT", "PATCH", "DELETE"]),
            url: z.string().min(1).max(2_000),
            ...{ ifMatch: z.string().optional(), ifNoneMatch: z.string().optional() },
            ...{ ifModifiedSince: z.string().optional(), ifNoneExist: z.string().optional() },
          }),
        }),
      )
      .max(maxEntries)
      .optional(),
  })
  .openapi("RequestBundle", {
    description: "http://hl7.org/fhir/R4/bundle.html",
    example: {
      resourceType: "Bundle",
      type: "transaction",
      entry: [{ resource: newPatient, request: { method: "POST", url: "Patient" } }],
    },
  });
const responseTypes = ["batch-response", "transaction-response"] as const;
const AnswerSchema = z.looseObject({ resourceType: z.literal("Bundle"), type: z.enum(responseTypes) }).openapi("ResponseBundle", {
  description: "http://hl7.org/fhir/R4/bundle.html",
  example: {
    resourceType: "Bundle",
    type: "transaction-response",
    entry: [{ response: { status: "201 Created", location: `https://example.com${root}/Patient/${id}/_history/1`, etag: 'W/"1"' } }],
  },
});

const processBundle = createRoute({
  operationId: "processBundle",
  method: "post",
  path: root,
  tags: ["Bundle"],
  summary: "Carry out many requests",
  description: `Up to ${maxEntries} requests. Those of a batch are carried out one by one, in their order, each with its own outcome. Those of a
transaction that write patients are done together or not at all; its reads follow, each with its own outcome. If a transaction cannot be
done, \`expression\` names the entry. No two of its writes may concern the same patient.`,
  request: { body: fhirBody(BundleSchema) },
  responses: {
    200: fhirAnswer(AnswerSchema, "What became of each request, in order"),
    ...errorAnswers("not_found", "gone", "already_exists", "aborted", "unprocessable", "not_acceptable", "resource_exhausted"),
  },
});

/** The requests of a batch, and the reads of a transaction, are sent to the whole API, in this process. */
export function registerBundles({ app, operation }: RestApp, transactions: Transactions): void {
  const sendAs = (c: RestContext): Send => {
    const { authorization, requestId } = callOf(c);
    const own = { authorization, "x-request-id": requestId, traceparent: c.get("traceparent"), accept: "application/fhir+json" };
    const prefer = c.req.header("prefer");
    return async (method, path, headers, resource) => {
      const type = method === "PATCH" ? "application/json-patch+json" : "application/fhir+json";
      const more = { ...own, ...(prefer !== undefined && { prefer }), ...(resource && { "content-type": type }) };
      for (const [name, value] of Object.entries(more)) headers.set(name, value);
      return app.request(path, { method, headers, ...(resource && { body: bodyOf(method, resource) }) });
    };
  };

  operation(
    processBundle,
    async (c) => {
      requireJson(c);
      const { type, entry: entries = [] } = c.req.valid("json") as unknown as Bundle & { type: "batch" | "transaction" };
      const send = sendAs(c);
      const onFailure = (error: unknown) =>
        c.get("log").error({ requestId: c.get("requestId"), err: error }, "an entry of a Bundle failed");
      const written = type === "transaction" ? await transactions.write(callOf(c), entries, preferencesOf(c).return) : undefined;
      const entry: BundleEntry[] = [];
      for (const [index, one] of entries.entries()) entry.push(written?.get(index) ?? (await carryOut(one, send, onFailure)));
      return answerWith(c, { resourceType: "Bundle", type: `${type}-response` as const, ...(entry.length > 0 && { entry }) });
    },
    // Some clients write the base with a slash.
    { orWithSlash: true },
  );
}

/** A patch is no resource, so a Bundle has it in a Binary. What is no patch is refused as the body of a PATCH. */
const bodyOf = (method: string, resource: { data?: unknown }): string =>
  method === "PATCH" && typeof resource.data === "string" ? Buffer.from(resource.data, "base64").toString() : JSON.stringify(resource);

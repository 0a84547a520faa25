/** Bundles of requests: batches, whose entries stand alone. */
import { createRoute, z } from "@hono/zod-openapi";
import type { RestApp, RestContext } from "@pm/kit/http/rest";
import { errorAnswers } from "@pm/kit/http/schemas";
import type { Bundle, BundleEntry } from "fhir/r4.js";
import { examplePatient } from "../patients/mapping.ts";
import { callOf } from "../protocol/calls.ts";
import { answerWith, fhirAnswer, fhirBody, requireJson, root } from "../protocol/resource.ts";
import { carryOut, type Send } from "./batch.ts";

const maxEntries = 100;

const { id, meta: _meta, ...newPatient } = examplePatient;
const BundleSchema = z
  .looseObject({
    resourceType: z.literal("Bundle"),
    type: z.enum(["batch"]),
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
    example: { resourceType: "Bundle", type: "batch", entry: [{ resource: newPatient, request: { method: "POST", url: "Patient" } }] },
  });
const AnswerSchema = z.looseObject({ resourceType: z.literal("Bundle"), type: z.enum(["batch-response"]) }).openapi("ResponseBundle", {
  description: "http://hl7.org/fhir/R4/bundle.html",
  example: {
    resourceType: "Bundle",
    type: "batch-response",
    entry: [{ response: { status: "201 Created", location: `Patient/${id}/_history/1`, etag: 'W/"1"' } }],
  },
});

const processBundle = createRoute({
  operationId: "processBundle",
  method: "post",
  path: root,
  tags: ["Bundle"],
  summary: "Carry out many requests",
  description: `Up to ${maxEntries} requests, which are carried out one by one, in their order, each with its own outcome. A transaction is refused.`,
  request: { body: fhirBody(BundleSchema) },
  responses: {
    200: fhirAnswer(AnswerSchema, "What became of each request, in order"),
    ...errorAnswers("not_acceptable"),
  },
});

/** The requests of entries are sent to the whole API, in this process. */
export function registerBundles({ app, operation }: RestApp): void {
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

  operation(processBundle, async (c) => {
    requireJson(c);
    const { entry: entries = [] } = c.req.valid("json") as unknown as Bundle;
    const send = sendAs(c);
    const entry: BundleEntry[] = [];
    const onFailure = (error: unknown) => c.get("log").error({ requestId: c.get("requestId"), err: error }, "an entry of a batch failed");
    for (const one of entries) entry.push(await carryOut(one, send, onFailure));
    return answerWith(c, { resourceType: "Bundle", type: "batch-response", ...(entry.length > 0 && { entry }) });
  });
}

/** A patch is no resource, so a Bundle has it in a Binary. What is no patch is refused as the body of a PATCH. */
const bodyOf = (method: string, resource: { data?: unknown }): string =>
  method === "PATCH" && typeof resource.data === "string" ? Buffer.from(resource.data, "base64").toString() : JSON.stringify(resource);

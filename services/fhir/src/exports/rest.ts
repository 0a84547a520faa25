/** The operations of Bulk Data: kick-off, status, files and cancellation. */
import { createRoute, z } from "@hono/zod-openapi";
import { invalidFields } from "@pm/kit/errors";
import type { RestApp, RestContext } from "@pm/kit/http/rest";
import { errorAnswers, jsonAnswer } from "@pm/kit/http/schemas";
import { textStream } from "@pm/kit/http/text-stream";
import { callOf } from "../protocol/calls.ts";
import type { Operation } from "../protocol/capability.ts";
import { preferencesOf } from "../protocol/conditions.ts";
import { idOf, queryOf, requireJson, root } from "../protocol/resource.ts";
import type { Exports } from "./client.ts";
import {
  exportedTypes,
  fileNames,
  fileOf,
  manifestOf,
  ndjson,
  outcomesFile,
  readRequest,
  readStatus,
  requestPattern,
  statusUrl,
} from "./exports.ts";

const definition = (level: string) => `http://hl7.org/fhir/uv/bulkdata/OperationDefinition/${level}`;
export const exportOperations: Operation[] = [
  { name: "export", definition: definition("export") },
  { resource: "Patient", name: "export", definition: definition("patient-export") },
  { resource: "Group", name: "export", definition: definition("group-export") },
];

const tags = ["Bulk Data"];
const params = idOf("0193b3f0-8c1a-7b6e-9d2f-3a4b5c6d7e8f");
/** A parameter may come several times. Clients that are generated from the document send one text, with commas. */
const several = z
  .union([z.string(), z.array(z.string())])
  .optional()
  .openapi({ type: "string" });

const kickOff = {
  method: "get" as const,
  tags,
  // The handler reads the header, in every spelling that RFC 7240 has for it.
  parameters: [{ name: "prefer", in: "header" as const, required: true, schema: { type: "string" as const }, example: "respond-async" }],
  description: `With \`Prefer: respond-async\`. The answer is 202, and \`Content-Location\` is where the status is. The export has everybody whom
the caller may see, as they are now, whatever is written until its files are read. A caller may have two that are not finished.`,
};
const query = z.looseObject({
  _type: several.openapi({ description: `Types of resources, with commas between: ${exportedTypes.join(", ")}.`, example: "Patient" }),
  _since: several.openapi({
    description: "Only what changed or was shared later. With `transactionTime` of such an export of the last year, no change is left out.",
    example: "2026-11-27T09:30:00.000Z",
  }),
  _outputFormat: several.openapi({ description: "NDJSON is all there is.", example: ndjson }),
});
const accepted = {
  202: {
    description: "The export",
    headers: { "content-location": { schema: { type: "string" as const }, description: "Where its status is" } },
  },
  ...errorAnswers("not_acceptable", "resource_exhausted"),
};
const exportSystem = createRoute({
  ...{ ...kickOff, operationId: "exportSystem", path: `${root}/$export`, summary: "Export everything" },
  request: { query },
  responses: accepted,
});
const exportPatients = createRoute({
  ...{ ...kickOff, operationId: "exportPatients", path: `${root}/Patient/$export`, summary: "Export all patients" },
  request: { query },
  responses: accepted,
});
const exportGroup = createRoute({
  ...{
    ...kickOff,
    operationId: "exportGroup",
    path: `${root}/Group/{id}/$export`,
    summary: "Export the patients who are shared with a team",
    description: `${kickOff.description} The team must be the caller's, unless they see all patients.`,
  },
  request: { params, query },
  responses: { ...accepted, ...errorAnswers("not_found") },
});

const file = z.object({ type: z.string(), url: z.url() });
const ManifestSchema = z
  .object({
    transactionTime: z.iso.datetime(),
    request: z.url(),
    requiresAccessToken: z.boolean(),
    output: z.array(file),
    deleted: z.array(file),
    error: z.array(file),
  })
  .openapi("ExportManifest", {
    description: "https://hl7.org/fhir/uv/bulkdata/STU2/export.html",
    example: {
      transactionTime: "2026-11-28T09:30:00.000Z",
      request: "https://example.com/fhir/R4/Patient/$export?_type=Patient",
      requiresAccessToken: true,
      output: [{ type: "Patient", url: "https://example.com/fhir/R4/exports/0193b3f0-8c1a-7b6e-9d2f-3a4b5c6d7e8f/Patient" }],
      deleted: [],
      error: [],
    },
  });
const readExport = createRoute({
  ...{ operationId: "readExport", method: "get", path: `${root}/exports/{id}`, tags, summary: "Read the manifest of an export" },
  request: {
    params,
    // Clients of FHIR add parameters to every address, such as _format.
    query: z.looseObject({
      request: z.string().openapi({
        pattern: requestPattern,
        description: "Part of the address that $export gave.",
        example: "Patient/$export?_type=Patient",
      }),
    }),
  },
  responses: { 200: jsonAnswer(ManifestSchema, "The manifest"), ...errorAnswers("not_found") },
});
const cancelExport = createRoute({
  ...{
    operationId: "cancelExport",
    method: "delete",
    path: `${root}/exports/{id}`,
    tags,
    summary: "Cancel an export, or remove its files",
  },
  request: { params },
  responses: { 202: { description: "Cancelled" }, ...errorAnswers("not_found") },
});
const readExportFile = createRoute({
  ...{ operationId: "readExportFile", method: "get", path: `${root}/exports/{id}/{file}`, tags, summary: "Read a file of an export" },
  description: `A resource in each line. \`deletions\` has a Bundle of type transaction in each line, with the deletion of a patient. Two files at a
time; a third is 429. It ends with the caller's session.`,
  request: { params: params.extend({ file: z.string().openapi({ pattern: `^(${fileNames.join("|")})$`, example: "Patient" }) }) },
  responses: {
    200: { description: "NDJSON", content: { [ndjson]: { schema: z.string().openapi({ example: '{"resourceType":"Patient"}\n' }) } } },
    ...errorAnswers("not_found", "failed_precondition", "resource_exhausted"),
  },
});

/** `base` is the URL of this API, as clients call it. */
type Parts = { base: string; exports: Exports };

export function registerExports({ operation }: RestApp, { base, exports }: Parts): void {
  async function start(c: RestContext, path: string, team?: string) {
    requireJson(c);
    // An export that ignored a parameter would look complete, so ignoring has to be asked for.
    const { handling, isAsync } = preferencesOf(c, "strict");
    if (!isAsync) throw invalidFields([{ path: "prefer", message: "must be respond-async" }]);
    const asked = readRequest(path, queryOf(c), handling);
    const created = await exports.create(callOf(c), { team, since: asked.since });
    return c.body(null, 202, { "content-location": statusUrl(base, created, asked) });
  }

  operation(exportSystem, (c) => start(c, "$export"));
  operation(exportPatients, (c) => start(c, "Patient/$export"));
  operation(exportGroup, (c) => start(c, `Group/${c.req.valid("param").id}/$export`, c.req.valid("param").id));

  operation(readExport, async (c) => {
    const asked = readStatus(c.req.valid("query").request);
    const found = await exports.read(callOf(c), c.req.valid("param").id);
    return c.json(manifestOf(base, found, asked), 200, { expires: new Date(found.expiresAt).toUTCString() });
  });

  operation(cancelExport, async (c) => {
    await exports.remove(callOf(c), c.req.valid("param").id);
    return c.body(null, 202);
  });

  operation(
    readExportFile,
    async (c) => {
      const { id: exportId, file: name } = c.req.valid("param");
      if (name === "outcomes") {
        await exports.read(callOf(c), exportId);
        return c.body(outcomesFile, 200, { "content-type": ndjson }) as never;
      }
      const { stream, toResources } = fileOf(name);
      const { signal } = c.get("streaming");
      const pages = await exports.lines(callOf(c), exportId, stream, signal);
      async function* text() {
        for await (const lines of pages)
          yield lines.flatMap(toResources).map((resource) => `${JSON.stringify(resource)}\n`).join(""); // biome-ignore format: one chain
      }
      return c.body(textStream(c, text()), 200, { "content-type": ndjson }) as never;
    },
    { streams: true },
  );
}

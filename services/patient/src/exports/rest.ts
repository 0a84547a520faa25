/** The operations on exports as of one moment. A caller sees their own for 24 hours. */
import { createRoute, z } from "@hono/zod-openapi";
import type { RestApp, RestContext } from "@pm/kit/http/rest";
import { errorAnswers, jsonAnswer, jsonBody } from "@pm/kit/http/schemas";
import { textStream } from "@pm/kit/http/text-stream";
import { callOf } from "../caller.ts";
import { mediaTypes } from "../files/formats.ts";
import type { Transfers } from "../files/transfers.ts";
import { params } from "../patients/request.ts";
import type { Exports } from "./exports.ts";
import type { Export } from "./store.ts";

const id = "0193b3f0-8c1a-7b6e-9d2f-3a4b5c6d7e8f";

const ExportSchema = z
  .object({
    exportId: z.uuid(),
    cutoff: z.iso.datetime().openapi({ description: "The moment of which the export is. Send it as `since` of the next one." }),
    since: z.iso.datetime().optional(),
    team: z.string().optional(),
    state: z.enum(["open", "finished"]).openapi({ description: "`finished`: its patients were read to the end, at least once." }),
    patients: z.int().openapi({ description: "How many patients were read." }),
    expiresAt: z.iso.datetime(),
  })
  .openapi("Export", {
    example: {
      ...{ exportId: id, cutoff: "2026-11-28T09:30:00.000Z", since: "2026-11-27T09:30:00.000Z", state: "open" as const },
      ...{ patients: 12_000, expiresAt: "2026-11-29T09:30:00.000Z" },
    },
  });

const ExportCreateSchema = z
  .strictObject({
    since: z.iso
      .datetime({ offset: true })
      // Postgres has no instant before the year 1.
      .refine((text) => text >= "0001", "must be an instant such as 2026-01-28T09:30:00Z")
      .optional()
      .openapi({
        description:
          "Only what changed or was shared with you later. With the `cutoff` of an export of yours of the last year, of the same team if of any, no change is left out or repeated; any other instant is compared with the times of the changes, without a promise.",
        example: "2026-11-27T09:30:00.000Z",
      }),
    team: z
      .string()
      .regex(/^[A-Za-z0-9_.:-]{1,64}$/, "must be the id of a team")
      .optional()
      .openapi({
        description: "Only patients who are shared with this team, of which you must be a member unless you see all patients.",
        example: "cardiology",
      }),
  })
  .openapi("ExportCreate", { example: { since: "2026-11-27T09:30:00.000Z" } });

const createExport = createRoute({
  operationId: "createExport",
  method: "post",
  path: "/patients/exports",
  tags: ["Files"],
  summary: "Create an export of the patients as they are now",
  description: `It can be read at once, and for 24 hours, and shows the patients as they were when it was created, whatever is written
meanwhile. Who may see whom is decided when it is read. You may have two that are not finished; a third is 429. One that nobody reads for
an hour does not count.`,
  request: { body: jsonBody(ExportCreateSchema) },
  responses: {
    201: jsonAnswer(ExportSchema, "The export. `Location` has its address."),
    ...errorAnswers("not_found", "resource_exhausted"),
  },
});
const readExport = createRoute({
  ...{ operationId: "readExport", method: "get", path: "/patients/exports/{id}", tags: ["Files"], summary: "Read how far an export is" },
  request: { params },
  responses: { 200: jsonAnswer(ExportSchema, "The export"), ...errorAnswers("not_found") },
});
const deleteExport = createRoute({
  ...{ operationId: "deleteExport", method: "delete", path: "/patients/exports/{id}", tags: ["Files"], summary: "Delete an export" },
  description: "Its streams end. Its cutoff can still be the `since` of another export.",
  request: { params },
  responses: { 204: { description: "Deleted" }, ...errorAnswers("not_found") },
});

const ndjson = (example: object, description: string) => ({
  200: { description, content: { [mediaTypes.ndjson]: { schema: z.string().openapi({ example: `${JSON.stringify(example)}\n` }) } } },
  ...errorAnswers("not_found", "failed_precondition", "resource_exhausted"),
});
const readExportedPatients = createRoute({
  ...{ operationId: "readExportedPatients", method: "get", path: "/patients/exports/{id}/patients", tags: ["Files"] },
  summary: "Read the patients of an export",
  description: `A stream of NDJSON in the order of registration: every patient with the version that was the latest one at the cutoff. A
record that was merged has \`mergedInto\`; that one may be merged too. Whoever was erased is left out, also after the cutoff. You may read
two streams at a time, of these and of exports by \`/patients:export\`. A stream ends with your session and after 60 minutes.`,
  request: { params },
  responses: ndjson({ id, name: "Ada Lovelace", dateOfBirth: "1987-04-12", version: 4 }, "A patient in each line"),
});
const readExportedDeletions = createRoute({
  ...{ operationId: "readExportedDeletions", method: "get", path: "/patients/exports/{id}/deletions", tags: ["Files"] },
  summary: "Read whom an export no longer has",
  description: "A stream of NDJSON: patients who were deleted or erased at the cutoff, with `since` only those who were not before.",
  request: { params },
  responses: ndjson({ id, version: 5, deletedAt: "2026-11-28T09:00:00.000Z" }, "A patient in each line"),
});

function toBody({ id: exportId, team, cutoff, since, patients, finishedAt, expiresAt }: Export) {
  return {
    exportId,
    cutoff: cutoff.toISOString(),
    ...(since && { since: since.toISOString() }),
    ...(team !== null && { team }),
    state: finishedAt ? ("finished" as const) : ("open" as const),
    patients: Number(patients),
    expiresAt: expiresAt.toISOString(),
  };
}

export function registerExports({ operation }: RestApp, { exports, transfers }: { exports: Exports; transfers: Transfers }): void {
  /** An answer that begins with its first page, so that it can still be refused before. */
  async function stream(c: RestContext, pages: AsyncGenerator<string>) {
    const streaming = c.get("streaming");
    const ended = await transfers.begin(callOf(c), { kind: "export", name: mediaTypes.ndjson, streaming });
    try {
      const first = await pages.next();
      async function* text() {
        if (!first.done) yield first.value;
        yield* pages;
      }
      return c.body(textStream(c, text(), ended), 200, { "content-type": `${mediaTypes.ndjson}; charset=utf-8` }) as never;
    } catch (error) {
      await ended();
      throw error;
    }
  }

  operation(createExport, async (c) => {
    const { team, since } = c.req.valid("json");
    const created = await exports.create(callOf(c), { team, since });
    return c.json(toBody(created), 201, { location: `/patients/exports/${created.id}` });
  });

  operation(readExport, async (c) => c.json(toBody(await exports.read(callOf(c), c.req.valid("param").id)), 200));

  operation(deleteExport, async (c) => {
    await exports.cancel(callOf(c), c.req.valid("param").id);
    return c.body(null, 204);
  });

  operation(readExportedPatients, (c) => stream(c, exports.patients(callOf(c), c.req.valid("param").id)), { streams: true });

  operation(readExportedDeletions, (c) => stream(c, exports.deletions(callOf(c), c.req.valid("param").id)), { streams: true });
}

/** Imports that run or ran: how far they are, what was wrong, and their end. Callers see their own for a week. */
import { createRoute, z } from "@hono/zod-openapi";
import { AppError } from "@pm/kit/errors";
import type { RestApp } from "@pm/kit/http/rest";
import { errorAnswers, jsonAnswer } from "@pm/kit/http/schemas";
import { isUuid } from "@pm/kit/uuid";
import { stringify } from "csv-stringify/sync";
import { type Call, callOf } from "../caller.ts";
import type { PatientDatabase } from "../database.ts";
import { params } from "../patients/request.ts";
import { cancelImport, type ImportState, importStatuses, listImports, readImport } from "./progress-store.ts";
import { writeCell } from "./rows.ts";
import { readImportErrors } from "./store.ts";
import { importModes } from "./tables.ts";

const ImportSchema = z
  .object({
    importId: z.uuid(),
    key: z.string().optional().openapi({ description: "The Idempotency-Key." }),
    mode: z.enum(importModes),
    dryRun: z.boolean(),
    status: z.enum(importStatuses).openapi({
      description:
        "`stopped`: its request ended early. With an Idempotency-Key, the same file under the same key goes on where it stopped.",
    }),
    lines: z.int().openapi({ description: "Lines that are done. They are stored a thousand at a time." }),
    created: z.int(),
    updated: z.int(),
    unchanged: z.int(),
    failed: z.int(),
    startedAt: z.iso.datetime(),
    updatedAt: z.iso.datetime(),
  })
  .openapi("Import", {
    example: {
      ...{
        importId: "0193b3f0-8c1a-7b6e-9d2f-3a4b5c6d7e8f",
        key: "2026-11-27-outpatients",
        mode: "upsert",
        dryRun: false,
        status: "running",
      },
      ...{ lines: 12_000, created: 11_000, updated: 900, unchanged: 90, failed: 10 },
      ...{ startedAt: "2026-11-27T09:30:00.000Z", updatedAt: "2026-11-27T09:30:05.000Z" },
    },
  });
const ImportsSchema = z.object({ items: z.array(ImportSchema) }).openapi("Imports");

const describe = {
  list: "Your newest fifty. Imports are kept for a week.",
  errors: "As CSV, a row for each, with the column as the file writes it: the first 10,000, at most twenty of a line.",
  cancel: "It ends within its next thousand lines. What is stored stays. The same file under the same Idempotency-Key goes on.",
};
const found = { 200: jsonAnswer(ImportSchema, "How far it is"), ...errorAnswers("not_found") };
const list = createRoute({
  ...{ operationId: "listImports", method: "get", path: "/patients/imports", tags: ["Files"], summary: "List your imports" },
  description: describe.list,
  responses: { 200: jsonAnswer(ImportsSchema, "The newest first") },
});
const read = createRoute({
  ...{ operationId: "readImport", method: "get", path: "/patients/imports/{id}", tags: ["Files"], summary: "Read how far an import is" },
  request: { params },
  responses: found,
});
const readErrors = createRoute({
  ...{ operationId: "readImportErrors", method: "get", path: "/patients/imports/{id}/errors", tags: ["Files"] },
  summary: "Read what was wrong with the lines of an import",
  description: describe.errors,
  request: { params },
  responses: {
    200: {
      description: "A row for each error",
      content: {
        "text/csv": { schema: z.string().openapi({ example: "line,column,message\n17,DOB,must not be in the future\n" }) },
      },
    },
    ...errorAnswers("not_found"),
  },
});
const cancel = createRoute({
  ...{ operationId: "cancelImport", method: "post", path: "/patients/imports/{id}:cancel", tags: ["Files"], summary: "Cancel an import" },
  description: describe.cancel,
  request: { params },
  responses: found,
});

function toBody({ id: importId, key, lines, created, updated, unchanged, failed, startedAt, updatedAt, ...state }: ImportState) {
  const counts = {
    lines: Number(lines),
    created: Number(created),
    updated: Number(updated),
    unchanged: Number(unchanged),
    failed: Number(failed),
  };
  return {
    ...{ importId, ...(key !== null && { key }), ...state, ...counts },
    ...{ startedAt: startedAt.toISOString(), updatedAt: updatedAt.toISOString() },
  };
}

export function registerProgress({ operation }: RestApp, { db }: { db: PatientDatabase }): void {
  async function find({ actorId }: Call, id: string): Promise<ImportState> {
    const state = isUuid(id) ? await readImport(db, actorId, id) : undefined;
    if (!state) throw new AppError("not_found", "You have no import with this id. Imports are kept for a week.");
    return state;
  }

  operation(list, async (c) => c.json({ items: (await listImports(db, callOf(c).actorId)).map(toBody) }, 200));

  operation(read, async (c) => c.json(toBody(await find(callOf(c), c.req.valid("param").id)), 200));

  operation(readErrors, async (c) => {
    const { id } = await find(callOf(c), c.req.valid("param").id);
    const rows = [["line", "column", "message"]];
    for await (const { line, errors } of readImportErrors(db, id))
      for (const { path, column = path, message } of errors) rows.push([String(line), writeCell(column), writeCell(message)]);
    const headers = { "content-type": "text/csv; charset=utf-8", "content-disposition": 'attachment; filename="import-errors.csv"' };
    return c.body(stringify(rows), 200, headers) as never;
  });

  operation(cancel, async (c) => {
    const { actorId, requestId } = callOf(c);
    const { id } = await find(callOf(c), c.req.valid("param").id);
    await cancelImport(db, { caller: actorId, id, requestId });
    return c.json(toBody(await find(callOf(c), id)), 200);
  });
}

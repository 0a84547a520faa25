/** The operations on files of patients: import and export as streams. */
import { randomUUIDv7 } from "node:crypto";
import { createRoute, z } from "@hono/zod-openapi";
import { AppError, invalidFields } from "@pm/kit/errors";
import type { RestApp } from "@pm/kit/http/rest";
import { errorAnswers, jsonAnswer, plainText } from "@pm/kit/http/schemas";
import { textStream } from "@pm/kit/http/text-stream";
import { plainTextPattern } from "@pm/kit/plain-text";
import { callOf } from "../caller.ts";
import type { Lists } from "../patients/list.ts";
import { filters, filtersOf, idempotencyKey } from "../patients/request.ts";
import { ImportReportSchema } from "../patients/schemas.ts";
import { duplicateModes } from "../tables.ts";
import { readMap } from "./columns.ts";
import { dateFormats } from "./dates.ts";
import { exportPages } from "./exports.ts";
import { type Format, mediaTypes, readFile, writeLines } from "./formats.ts";
import type { ImportReport, Imports } from "./import.ts";
import { importModes } from "./tables.ts";
import { type Charset, declaredCharset } from "./text.ts";
import type { Transfers } from "./transfers.ts";

const files = {
  [mediaTypes.ndjson]: {
    schema: z.string().openapi({
      description: "A patient in each line, in the form of a create or of an export.",
      example: '{"name":"Ada Lovelace","email":"ada@example.com","dateOfBirth":"1987-04-12","address":"1 Main St, Springfield"}\n',
    }),
  },
  [mediaTypes.csv]: {
    schema: z.string().openapi({
      description:
        "A header, then a patient in each row (RFC 4180), with commas, semicolons or tabs between the cells. docs/files.md lists the columns, and their names in other systems. In UTF-8, in UTF-16 with a byte order mark, or in the charset that Content-Type declares: windows-1252, iso-8859-1 or utf-16.",
      example: 'name,email,dateOfBirth,address\nAda Lovelace,ada@example.com,1987-04-12,"1 Main St, Springfield"\n',
    }),
  },
};

/** The format of a `Content-Type` or of the first known type of an `Accept` header. */
function formatOf(header: string | undefined): Format | undefined {
  for (const part of (header ?? "").split(",")) {
    const type = part.split(";")[0]?.trim().toLowerCase();
    if (type === mediaTypes.csv) return "csv";
    if (type === mediaTypes.ndjson || type === "application/ndjson" || type === "application/jsonl") return "ndjson";
  }
  return undefined;
}

/** NDJSON is always UTF-8. The sender of CSV says what it is. */
function charsetOf(format: Format, contentType = ""): Charset {
  const charset = declaredCharset(contentType);
  if (format === "csv" && charset) return charset;
  if (charset === "utf-8") return charset;
  const known = format === "csv" ? "utf-8, utf-16, iso-8859-1 or windows-1252" : "utf-8";
  throw new AppError("unsupported_media_type", `Content-Type: the charset of ${mediaTypes[format]} must be ${known}.`);
}

function refuseCompressed(contentEncoding = "identity"): void {
  if (contentEncoding.trim().toLowerCase() === "identity") return;
  throw new AppError("unsupported_media_type", "Content-Encoding: compressed files are not read. Send the file as it is.", {
    headers: { "accept-encoding": "identity" },
  });
}

/** The report as JSON text, with its lists as the database gives them. */
async function* reportText({ errors, possibleDuplicates, ...report }: ImportReport): AsyncGenerator<string> {
  yield JSON.stringify(report).slice(0, -1);
  yield* listText("errors", errors);
  yield* listText("possibleDuplicates", possibleDuplicates);
  yield "}";
}

async function* listText(name: string, items: AsyncIterable<object>): AsyncGenerator<string> {
  let text = `,"${name}":[`;
  let separator = "";
  for await (const item of items) {
    text += separator + JSON.stringify(item);
    separator = ",";
    if (text.length < 16_384) continue;
    yield text;
    text = "";
  }
  yield `${text}]`;
}

const importPatients = createRoute({
  operationId: "importPatients",
  method: "post",
  path: "/patients:import",
  tags: ["Files"],
  summary: "Import a file of patients",
  description: `Creates the patients of all lines that are right, or changes them (\`mode\`). The report says what is wrong with the others;
line numbers are those of a text editor. If the first MiB of a file is not in its charset, the file is refused; after it, only the line
fails. Compressed files are not read. After you met too many e-mail addresses or identifiers of patients whom you may not see, lines fail
unchecked for up to an hour. With an Idempotency-Key, a request that was cut off can be sent again, whole, and continues where it stopped.
An import ends with 401 when your session ends, not when your token expires. You may have two imports at a time, dry runs included; a third
is 429. An import that sends less than 1 KiB per second, or takes longer than 60 minutes, ends with 408; the answer says what is stored.`,
  request: {
    query: z.strictObject({
      dryRun: z
        .enum(["true", "false"])
        .default("false")
        .openapi({ description: "Checks everything and stores nothing. The report has what would change, field by field." }),
      mode: z.enum(importModes).default("create").openapi({
        description:
          "`update` changes the patient that has the id of a line or, if it has none, one of its identifiers: as a PATCH does, with the cells and fields that are there. `upsert` creates the others too.",
      }),
      duplicates: z.enum(duplicateModes).default("warn").openapi({
        description:
          "What becomes of a line whose patient may be registered already, as far as you may see: `warn` creates them, and `possibleDuplicates` of the report says so; `refuse` fails the line; `allow` does not look.",
      }),
      map: plainText.min(1).max(2_000).optional().openapi({
        pattern: plainTextPattern,
        description:
          "What columns of CSV mean, if their names do not say it: `column:meaning`, with commas between. `-` leaves a column out.",
        example: "Vorname:firstName,Pass:identifiers.passport-de,Notiz:-",
      }),
      dateFormat: z
        .enum(dateFormats)
        .optional()
        .openapi({ description: "How CSV writes dates, beside YYYY-MM-DD. Without it, a date in another form fails its line." }),
    }),
    headers: z.object({
      "idempotency-key": idempotencyKey.openapi({ description: "Kept for a week.", example: "2026-11-27-outpatients" }),
    }),
    body: { required: true, content: files },
  },
  responses: {
    200: jsonAnswer(ImportReportSchema, "The report"),
    ...errorAnswers("idempotency_key_reused", "failed_precondition", "cancelled", "request_timeout", "resource_exhausted"),
  },
});

const exportPatients = createRoute({
  operationId: "exportPatients",
  method: "get",
  path: "/patients:export",
  tags: ["Files"],
  summary: "Export patients as a file",
  description: `A stream in the order of registration. \`format\`, or the Accept header, chooses between NDJSON and CSV. The stream is cut off
when your session ends, not when your token expires, and after 60 minutes. You may have two exports at a time; a third is 429.`,
  request: {
    query: z.strictObject({
      format: z.enum(["ndjson", "csv"]).optional(),
      excel: z.enum(["true", "false"]).default("false").openapi({
        description: "CSV that Excel shows as it is: with a byte order mark, and with texts that do not become numbers or dates.",
      }),
      ...filters,
    }),
  },
  responses: {
    200: {
      description: "A patient in each line",
      headers: {
        until: { schema: { type: "string" }, description: "In an answer to `updatedAfter`: send it as the next `updatedAfter`." },
      },
      content: files,
    },
    ...errorAnswers("resource_exhausted"),
  },
});

type Parts = { imports: Imports; lists: Lists; transfers: Transfers };

export function registerFiles({ operation }: RestApp, { imports, lists, transfers }: Parts): void {
  operation(
    importPatients,
    async (c) => {
      const contentType = c.req.header("content-type");
      const format = formatOf(contentType);
      if (!format) throw new AppError("unsupported_media_type", `Send the file as ${mediaTypes.ndjson} or ${mediaTypes.csv}.`);
      const charset = charsetOf(format, contentType);
      refuseCompressed(c.req.header("content-encoding"));
      const { dryRun: isDry, mode, duplicates, map, dateFormat } = c.req.valid("query");
      const dryRun = isDry === "true";
      if (format === "ndjson" && (map !== undefined || dateFormat !== undefined))
        throw invalidFields([{ path: map === undefined ? "dateFormat" : "map", message: "is for CSV only" }]);
      const options = { map: map === undefined ? undefined : readMap(map), dateFormat };
      const key = c.req.valid("header")["idempotency-key"];
      const streaming = c.get("streaming");
      const { signal } = streaming;
      const transferId = randomUUIDv7();
      const ended = await transfers.begin(callOf(c), { id: transferId, kind: "import", name: key, streaming });
      try {
        const file = transfers.paced(c.req.raw.body ?? new Blob([]).stream(), streaming);
        // With the signal, the import ends also while it waits for more of the file.
        const lines = readFile(format, file.pipeThrough(new TransformStream(), { signal }), charset, options);
        const report = await imports.run(callOf(c), lines, { key, dryRun, mode, duplicates, transferId, signal });
        return c.body(textStream(c, reportText(report), ended), 200, { "content-type": "application/json" }) as never;
      } catch (error) {
        await ended();
        throw error;
      }
    },
    { streams: true },
  );

  operation(
    exportPatients,
    async (c) => {
      const { format: asked, excel, ...query } = c.req.valid("query");
      const isForExcel = excel === "true";
      const format = asked ?? (isForExcel ? "csv" : (formatOf(c.req.header("accept")) ?? "ndjson"));
      if (isForExcel && format !== "csv") throw invalidFields([{ path: "excel", message: "is for CSV only" }]);
      const call = callOf(c);
      const streaming = c.get("streaming");
      const ended = await transfers.begin(call, { kind: "export", name: format, streaming });
      const pages = exportPages(lists, call, filtersOf(query));
      // Read before the answer begins: it can still be refused, and its header says where the next export begins.
      const first = (await pages.next()).value;
      async function* text() {
        yield writeLines(format, first.items, true, isForExcel);
        for await (const { items } of pages) yield writeLines(format, items, false, isForExcel);
      }
      const headers = {
        ...(first.until !== undefined && { until: first.until }),
        "content-type": `${mediaTypes[format]}; charset=utf-8`,
        "content-disposition": `attachment; filename="patients.${format}"`,
      };
      return c.body(textStream(c, text(), ended), 200, headers) as never;
    },
    { streams: true },
  );
}

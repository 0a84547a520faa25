/** The operations on files of patients: import and export as streams. */
import { z } from "@hono/zod-openapi";
import { AppError } from "@pm/kit/errors";
import type { RestApp } from "@pm/kit/http/rest";
import type { Lists } from "../patients/list.ts";
import { callOf, filters, filtersOf, toBody } from "../patients/request.ts";
import { ImportReportSchema } from "../patients/schemas.ts";
import { exportPages } from "./exports.ts";
import { type Format, mediaTypes, readLines, writeLines } from "./formats.ts";
import type { createImports, ImportReport } from "./import.ts";
import { type Charset, declaredCharset } from "./text.ts";

const files = {
  [mediaTypes.ndjson]: {
    schema: z.string().openapi({ description: "A patient in each line, as the body of a create or as an export has it." }),
  },
  [mediaTypes.csv]: {
    schema: z.string().openapi({
      description:
        "A header with any of: name, firstName, lastName, email, phoneNumber, dateOfBirth, address, street, city, state, zipCode, sex, registeredDate. Then a patient in each row (RFC 4180), in UTF-8, in UTF-16 with a byte order mark, or in the charset that Content-Type declares: windows-1252, iso-8859-1 or utf-16.",
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

/** NDJSON is UTF-8 by its definition; CSV is what its sender says. */
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

/** The report as JSON text, its errors as they come out of the database. */
async function* reportText({ errors, ...report }: ImportReport): AsyncGenerator<string> {
  yield `${JSON.stringify(report).slice(0, -1)},"errors":[`;
  let separator = "";
  let text = "";
  for await (const error of errors) {
    text += separator + JSON.stringify(error);
    separator = ",";
    if (text.length < 16_384) continue;
    yield text;
    text = "";
  }
  yield `${text}]}`;
}

/**
 * A stream that asks for the next piece when the reader has taken the one before. Nothing more is given once the signal has
 * aborted.
 */
function streamOf(pieces: AsyncGenerator<string>, signal: AbortSignal): ReadableStream<Uint8Array> {
  async function* allowed() {
    for await (const piece of pieces) {
      signal.throwIfAborted();
      yield piece;
    }
  }
  signal.throwIfAborted();
  return ReadableStream.from(allowed()).pipeThrough(new TextEncoderStream());
}

export function registerFiles(
  { operation }: RestApp,
  { imports, lists }: { imports: ReturnType<typeof createImports>; lists: Lists },
): void {
  operation(
    {
      operationId: "importPatients",
      method: "post",
      path: "/patients:import",
      summary: "Import a file of patients",
      description:
        "Lines that are right are created, also where others are wrong; the report says what was wrong, by the numbers that a text editor gives the lines. A file is refused where its first MiB is not in its charset; after that, such a line fails alone. Compressed files are not read. With an Idempotency-Key, a request that was cut off is sent again, whole: it goes on where it stopped. It ends with 401 when your session ends, not when your token expires.",
      request: {
        query: z.strictObject({
          dryRun: z.enum(["true", "false"]).default("false").openapi({ description: "Checks everything and creates nothing." }),
        }),
        headers: z.object({ "idempotency-key": z.string().min(1).max(200).optional() }),
        body: { required: true, content: files },
      },
      responses: { 200: { description: "What was done", content: { "application/json": { schema: ImportReportSchema } } } },
    },
    async (c) => {
      const format = formatOf(c.req.header("content-type"));
      if (!format) throw new AppError("unsupported_media_type", `Send the file as ${mediaTypes.ndjson} or ${mediaTypes.csv}.`);
      const charset = charsetOf(format, c.req.header("content-type"));
      refuseCompressed(c.req.header("content-encoding"));
      const dryRun = c.req.valid("query").dryRun === "true";
      const signal = c.get("signedOut");
      // So that it ends, too, where it waits for more.
      const body = (c.req.raw.body ?? new Blob([]).stream()).pipeThrough(new TransformStream(), { signal });
      const key = c.req.valid("header")["idempotency-key"];
      const report = await imports.run(callOf(c), readLines(format, body, charset), { key, dryRun, signal });
      return c.body(streamOf(reportText(report), signal), 200, { "content-type": "application/json" }) as never;
    },
    { streams: true },
  );

  operation(
    {
      operationId: "exportPatients",
      method: "get",
      path: "/patients:export",
      summary: "Export patients as a file",
      description:
        "As a stream, in the order of registration. `format`, or the Accept header, chooses between NDJSON and CSV. It is cut off when your session ends, not when your token expires.",
      request: { query: z.strictObject({ format: z.enum(["ndjson", "csv"]).optional(), ...filters }) },
      responses: { 200: { description: "One patient in each line", content: files } },
    },
    async (c) => {
      const { format: asked, ...query } = c.req.valid("query");
      const format = asked ?? formatOf(c.req.header("accept")) ?? "ndjson";
      const call = callOf(c);
      async function* text() {
        let isFirst = true;
        for await (const page of exportPages(lists, call, filtersOf(query))) {
          yield writeLines(format, page.map(toBody), isFirst);
          isFirst = false;
        }
      }
      const headers = {
        "content-type": `${mediaTypes[format]}; charset=utf-8`,
        "content-disposition": `attachment; filename="patients.${format}"`,
      };
      return c.body(streamOf(text(), c.get("signedOut")), 200, headers) as never;
    },
    { streams: true },
  );
}

/** Who saw or changed a patient's data, for auditors. */
import { createRoute, z } from "@hono/zod-openapi";
import { AppError } from "@pm/kit/errors";
import { preferredType } from "@pm/kit/http/accept";
import { nextCursor, pageCursor, pageLimit } from "@pm/kit/http/paging";
import type { RestApp } from "@pm/kit/http/rest";
import { errorAnswers } from "@pm/kit/http/schemas";
import { textStream } from "@pm/kit/http/text-stream";
import { isUuid } from "@pm/kit/uuid";
import { stringify } from "csv-stringify/sync";
import { callOf } from "../caller.ts";
import { params } from "../patients/request.ts";
import type { Disclosure, Disclosures } from "./disclosures.ts";
import { contentSecurityPolicy, toHtml } from "./html.ts";

const formats = ["json", "html", "csv"] as const;
const mediaTypes = { json: "application/json", html: "text/html", csv: "text/csv" } as const;

const DisclosuresSchema = z
  .object({
    items: z.array(
      z.object({
        at: z.string().openapi({ example: "2026-11-28T09:30:00.123456Z" }),
        actor: z.string().openapi({
          description: "The id of a user, `client:<id>` or `service:<name>`.",
          example: "0193b3f0-8c1a-7b6e-9d2f-3a4b5c6d7e8f",
        }),
        action: z.string().openapi({ example: "patient.read" }),
        service: z.string().openapi({ description: "In whose trail the entry is.", example: "patient" }),
        id: z.string().openapi({ description: "The entry's id in that trail.", example: "4711" }),
        requestId: z.string().openapi({ example: "0b7e4c1d-5a2f-4c8e-9f3b-6d1a2c3b4e5f" }),
      }),
    ),
    nextCursor,
  })
  .openapi("Disclosures");

const readPatientDisclosures = createRoute({
  operationId: "readPatientDisclosures",
  method: "get",
  path: "/patients/{id}/disclosures",
  tags: ["Audit"],
  summary: "Read who saw or changed a patient's data, in any service",
  description: `The newest first, also of deleted patients. Lists and exports that showed the patient count. JSON comes in pages; HTML and CSV
are everything, as a stream. 503 if one of the services does not answer.`,
  request: {
    params,
    query: z.strictObject({
      limit: pageLimit(),
      cursor: pageCursor(),
      format: z.enum(formats).optional().openapi({
        description: "The form of the answer. Without it, the header `Accept` decides; if that names no form, the answer is JSON.",
        example: "csv",
      }),
    }),
  },
  responses: {
    200: {
      description: "Who, when, and what",
      content: {
        "application/json": { schema: DisclosuresSchema },
        "text/html": { schema: z.string() },
        "text/csv": { schema: z.string().openapi({ example: "at,actor,action,service,id,requestId\n" }) },
      },
    },
    ...errorAnswers("not_found", "not_acceptable"),
  },
});

const columns = ["at", "actor", "action", "service", "id", "requestId"] as const;

async function* toCsv(pieces: AsyncIterable<Disclosure[]>): AsyncGenerator<string> {
  yield `${columns.join(",")}\n`;
  // Spreadsheets take a cell that begins with =, +, - or @ for a formula.
  for await (const items of pieces) yield stringify(items, { columns: [...columns], escape_formulas: true });
}

export function registerDisclosures({ operation }: RestApp, { disclosures }: { disclosures: Disclosures }): void {
  operation(
    readPatientDisclosures,
    async (c) => {
      const { format: asked, ...page } = c.req.valid("query");
      const { json, html, csv } = mediaTypes;
      const preferred = preferredType(c, [json, html, csv]);
      const format = asked ?? formats.find((each) => mediaTypes[each] === preferred);
      if (!format) throw new AppError("not_acceptable", `Accept one of ${json}, ${html}, ${csv}, or say ?format=json, html or csv.`);
      const patientId = c.req.valid("param").id.toLowerCase();
      if (!isUuid(patientId)) throw new AppError("not_found", "There is no patient with this id.");
      const headers = {
        "content-type": `${mediaTypes[format]}; charset=utf-8`,
        "cache-control": "private, no-store",
        vary: "accept, authorization",
      };
      const call = callOf(c);
      if (format === "json") return c.json(await disclosures.page(call, patientId, page), 200, headers);
      const pieces = await disclosures.all(call, patientId);
      const name = {
        "content-disposition": `${format === "csv" ? "attachment" : "inline"}; filename="disclosures-${patientId}.${format}"`,
      };
      const text = format === "csv" ? toCsv(pieces) : toHtml(patientId, pieces);
      const policy = format === "html" && { "content-security-policy": contentSecurityPolicy };
      return c.body(textStream(c, text), 200, { ...headers, ...name, ...policy });
    },
    { streams: true },
  );
}

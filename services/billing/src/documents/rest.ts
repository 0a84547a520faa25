/** Invoices, credit notes and statements for people, as HTML, PDF or JSON. */
import { create, toJsonString } from "@bufbuild/protobuf";
import { createRoute, z } from "@hono/zod-openapi";
import type { AuditTrail } from "@pm/kit/audit/trail";
import { AppError } from "@pm/kit/errors";
import { preferredType } from "@pm/kit/http/accept";
import { type RestApp, type RestContext, requestContext } from "@pm/kit/http/rest";
import { errorAnswers } from "@pm/kit/http/schemas";
import { CreditNoteSchema, GetStatementRequestSchema, GetStatementResponseSchema, InvoiceSchema } from "@pm/proto/billing/v1/billing";
import type { Invoices } from "../invoices/invoices.ts";
import type { Reductions } from "../invoices/reductions.ts";
import type { Links } from "../links/links.ts";
import { type Clinic, creditNoteDocument, invoiceDocument, type PrintableDocument, statementDocument } from "./document.ts";
import { contentSecurityPolicy, toHtml } from "./html.ts";
import type { PdfPool } from "./pdf-pool.ts";
import { CreditNoteJsonSchema, InvoiceJsonSchema, StatementJsonSchema } from "./schemas.ts";

/** What the OpenAPI document says about the service. */
export const about = {
  title: "Billing",
  description: "The documents of billing. Its methods are `billing.v1.BillingService`, by gRPC, gRPC-Web or Connect.",
};

const formats = ["html", "pdf", "json"] as const;
type Format = (typeof formats)[number];
const mediaTypes = { html: "text/html", pdf: "application/pdf", json: "application/json" } as const satisfies Record<Format, string>;

const format = z.enum(formats).optional().openapi({
  description: "The form of the answer. Without it, the header `Accept` decides; if that names no form, the answer is HTML.",
  example: "pdf",
});
const id = z.uuid().openapi({ example: "0199b1c2-7d3e-7f00-8a4b-5c6d7e8f9a0b" });
const day = z
  .string()
  .regex(/^\d{4}-\d{2}-\d{2}$/, "must be a day, YYYY-MM-DD")
  .openapi({ example: "2026-11-21" });

const text = z.string();
const answerOf = (description: string, json: z.ZodType) => ({
  description,
  content: {
    "text/html": { schema: text },
    "application/pdf": { schema: text.openapi({ format: "binary" }) },
    "application/json": { schema: json },
  },
});

const showInvoice = createRoute({
  method: "get",
  path: "/billing/invoices/{id}",
  operationId: "showInvoice",
  tags: ["Documents"],
  summary: "Show an invoice",
  request: { params: z.object({ id }), query: z.object({ format }) },
  responses: {
    200: answerOf("The invoice, to read or to print", InvoiceJsonSchema),
    ...errorAnswers("not_found", "not_acceptable", "resource_exhausted"),
  },
});

const showCreditNote = createRoute({
  method: "get",
  path: "/billing/credit-notes/{id}",
  operationId: "showCreditNote",
  tags: ["Documents"],
  summary: "Show a credit note",
  request: { params: z.object({ id }), query: z.object({ format }) },
  responses: {
    200: answerOf("The credit note, to read or to print", CreditNoteJsonSchema),
    ...errorAnswers("not_found", "not_acceptable", "resource_exhausted"),
  },
});

const showStatement = createRoute({
  method: "get",
  path: "/billing/statements/{accountId}",
  operationId: "showStatement",
  tags: ["Documents"],
  summary: "Show the statement of an account for a period",
  request: {
    params: z.object({ accountId: id }),
    query: z.object({
      from: day.openapi({ description: "The first day of the period, in the clinic's time zone.", example: "2026-01-01" }),
      to: day.openapi({ description: "The last day of the period, in the clinic's time zone.", example: "2026-12-31" }),
      format,
    }),
  },
  responses: {
    200: answerOf("The statement, to read or to print", StatementJsonSchema),
    ...errorAnswers("not_found", "not_acceptable", "failed_precondition", "resource_exhausted"),
  },
});

type Rules = {
  invoices: Invoices;
  reductions: Reductions;
  links: Links;
  audit: AuditTrail;
  pdfPool: PdfPool;
  clinic: Clinic;
  clinicTimeZone: string;
  now: () => Date;
};

export function registerDocuments({ operation }: RestApp, rules: Rules): void {
  const { invoices, reductions, links, audit, pdfPool, clinic, clinicTimeZone, now } = rules;

  async function answer(c: RestContext, format: Format, document: PrintableDocument, json: () => string): Promise<Response> {
    const headers = {
      "content-type": format === "pdf" ? mediaTypes.pdf : `${mediaTypes[format]}; charset=utf-8`,
      // Names and amounts: for the caller only, so no cache may keep them.
      "cache-control": "private, no-store",
      vary: "accept, authorization",
      "x-content-type-options": "nosniff",
      ...(format !== "json" && { "content-disposition": `inline; filename="${document.fileName}.${format}"` }),
      ...(format === "html" && { "content-security-policy": contentSecurityPolicy }),
    };
    if (format === "json") return c.body(json(), 200, headers);
    if (format === "html") return c.body(await toHtml(document), 200, headers);
    return c.body(new Uint8Array(await pdfPool.render(document, now())), 200, headers);
  }

  operation(showInvoice, async (c) => {
    const format = formatOf(c, c.req.valid("query").format);
    const invoice = await invoices.get(c.req.valid("param").id);
    const details = { invoiceId: invoice.invoiceId, format };
    await audit.record({ ...requestContext(c), action: "invoice.read", subject: invoice.accountId, details });
    return answer(c, format, invoiceDocument(invoice, clinic), () => toJsonString(InvoiceSchema, invoice));
  });

  operation(showCreditNote, async (c) => {
    const format = formatOf(c, c.req.valid("query").format);
    const note = await reductions.creditNote(c.req.valid("param").id);
    const details = { creditNoteId: note.creditNoteId, format };
    await audit.record({ ...requestContext(c), action: "credit_note.read", subject: note.accountId, details });
    return answer(c, format, creditNoteDocument(note, clinic), () => toJsonString(CreditNoteSchema, note));
  });

  operation(showStatement, async (c) => {
    const { from: fromDate, to: toDate, ...query } = c.req.valid("query");
    const format = formatOf(c, query.format);
    const accountId = c.req.valid("param").accountId.toLowerCase();
    const statement = await links.statement(create(GetStatementRequestSchema, { accountId, fromDate, toDate }));
    await audit.record({ ...requestContext(c), action: "statement.read", subject: accountId, details: { fromDate, toDate, format } });
    return answer(c, format, statementDocument(statement, clinic, clinicTimeZone), () =>
      toJsonString(GetStatementResponseSchema, statement),
    );
  });
}

/** @throws AppError not_acceptable if the caller takes none of the forms */
function formatOf(c: RestContext, asked: Format | undefined): Format {
  if (asked) return asked;
  const { html, pdf, json } = mediaTypes;
  const preferred = preferredType(c, [html, pdf, json]);
  const format = formats.find((each) => mediaTypes[each] === preferred);
  if (format) return format;
  throw new AppError("not_acceptable", `Accept one of ${html}, ${pdf}, ${json}, or say ?format=html, pdf or json.`);
}

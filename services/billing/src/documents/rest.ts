/** Invoices, credit notes and statements for people, as HTML, PDF or JSON. Long ones are sent as they are read. */
import { toJsonString } from "@bufbuild/protobuf";
import { createRoute, z } from "@hono/zod-openapi";
import type { AuditTrail } from "@pm/kit/audit/trail";
import { AppError } from "@pm/kit/errors";
import { preferredType } from "@pm/kit/http/accept";
import { type RestApp, type RestContext, requestContext } from "@pm/kit/http/rest";
import { errorAnswers } from "@pm/kit/http/schemas";
import { textStream } from "@pm/kit/http/text-stream";
import { CreditNoteSchema, GetStatementResponseSchema, InvoiceSchema, PayerSchema } from "@pm/proto/billing/v1/billing";
import type { Concealing } from "../erasure/concealing.ts";
import type { Invoices } from "../invoices/invoices.ts";
import type { Reductions } from "../invoices/reductions.ts";
import { requirePeriod, type Statements } from "../ledger/statements.ts";
import { type Links, linkedPatients } from "../links/links.ts";
import type { Payers } from "../payers/payers.ts";
import { type Clinic, creditNoteDocument, invoiceDocument, type PrintableDocument } from "./document.ts";
import { contentSecurityPolicy, toHtml } from "./html.ts";
import { payerStatementJson, statementJson } from "./json.ts";
import type { PdfPool } from "./pdf-pool.ts";
import { CreditNoteJsonSchema, InvoiceJsonSchema, PayerStatementJsonSchema, StatementJsonSchema } from "./schemas.ts";
import { payerStatementDocument, statementDocument } from "./statement-document.ts";

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

const period = {
  from: day.openapi({ description: "The first day of the period, in the clinic's time zone.", example: "2026-01-01" }),
  to: day.openapi({ description: "The last day of the period, in the clinic's time zone.", example: "2026-12-31" }),
};

const showStatement = createRoute({
  method: "get",
  path: "/billing/statements/{accountId}",
  operationId: "showStatement",
  tags: ["Documents"],
  summary: "Show the statement of an account for a period",
  request: {
    params: z.object({ accountId: id }),
    query: z.object({ ...period, format }),
  },
  responses: {
    200: answerOf("The statement, to read or to print", StatementJsonSchema),
    ...errorAnswers("not_found", "not_acceptable", "failed_precondition", "resource_exhausted"),
  },
});

const showPayerStatement = createRoute({
  method: "get",
  path: "/billing/payers/{payerId}/statement",
  operationId: "showPayerStatement",
  tags: ["Documents"],
  summary: "Show the statement of a payer for a period, in one currency",
  description: `The accounts that the payer pays for today and that have transactions in the period or a balance before it, one after the
other. Amounts of different currencies are never added up, and the credit of one account settles nothing on another.`,
  request: {
    params: z.object({ payerId: id }),
    query: z.object({
      ...period,
      currency: z
        .string()
        .regex(/^[A-Z]{3}$/, "must be the three letters of a currency, such as EUR")
        .openapi({ description: "ISO 4217.", example: "EUR" }),
      format,
    }),
  },
  responses: {
    200: answerOf("The statement, to read or to print", PayerStatementJsonSchema),
    ...errorAnswers("not_found", "not_acceptable", "failed_precondition", "resource_exhausted"),
  },
});

type Rules = {
  invoices: Invoices;
  reductions: Reductions;
  payers: Payers;
  statements: Statements;
  links: Links;
  concealing: Concealing;
  audit: AuditTrail;
  pdfPool: PdfPool;
  clinic: Clinic;
  clinicTimeZone: string;
  now: () => Date;
  /** The patients of accounts, whom a statement of several accounts shows. */
  patientsOf: (accountIds: string[]) => Promise<string[]>;
};

export function registerDocuments({ operation }: RestApp, rules: Rules): void {
  const { invoices, reductions, payers, statements, links, concealing, audit, pdfPool, clinic, clinicTimeZone, now, patientsOf } = rules;

  async function answer(c: RestContext, format: Format, document: PrintableDocument, json: () => AsyncIterable<string>): Promise<Response> {
    const headers = {
      "content-type": format === "pdf" ? mediaTypes.pdf : `${mediaTypes[format]}; charset=utf-8`,
      // Names and amounts: for the caller only, so no cache may keep them.
      "cache-control": "private, no-store",
      vary: "accept, authorization",
      "x-content-type-options": "nosniff",
      ...(format !== "json" && { "content-disposition": `inline; filename="${document.fileName}.${format}"` }),
      ...(format === "html" && { "content-security-policy": contentSecurityPolicy }),
    };
    if (format === "pdf") return c.body(ReadableStream.from(await pdfPool.render(document, now())), 200, headers);
    return c.body(textStream(c, format === "json" ? json() : toHtml(document)), 200, headers);
  }

  const streams = { streams: true };
  const show = <R extends Parameters<typeof operation>[0]>(route: R, handler: Parameters<typeof operation<R>>[1]) =>
    operation(route, handler, streams);

  show(showInvoice, async (c) => {
    const format = formatOf(c, c.req.valid("query").format);
    const invoice = await concealing.conceal(c.get("caller"), InvoiceSchema, await invoices.get(c.req.valid("param").id));
    const details = { invoiceId: invoice.invoiceId, format };
    await audit.record({ ...requestContext(c), action: "invoice.read", subject: invoice.accountId, details });
    return answer(c, format, invoiceDocument(invoice, clinic), () => whole(toJsonString(InvoiceSchema, invoice)));
  });

  show(showCreditNote, async (c) => {
    const format = formatOf(c, c.req.valid("query").format);
    const note = await concealing.conceal(c.get("caller"), CreditNoteSchema, await reductions.creditNote(c.req.valid("param").id));
    const details = { creditNoteId: note.creditNoteId, format };
    await audit.record({ ...requestContext(c), action: "credit_note.read", subject: note.accountId, details });
    return answer(c, format, creditNoteDocument(note, clinic), () => whole(toJsonString(CreditNoteSchema, note)));
  });

  show(showStatement, async (c) => {
    const { from: fromDate, to: toDate, ...query } = c.req.valid("query");
    requirePeriod({ from: fromDate, to: toDate });
    const format = formatOf(c, query.format);
    const accountId = c.req.valid("param").accountId.toLowerCase();
    const caller = c.get("caller");
    const opened = await links.open({ accountId, fromDate, toDate });
    const statement = {
      statement: await concealing.conceal(caller, GetStatementResponseSchema, opened.statement),
      parts: concealing.parts(caller, opened.parts),
      linked: opened.linked.map((each) => ({ ...each, parts: concealing.parts(caller, each.parts) })),
    };
    const details = { fromDate, toDate, format };
    const patientIds = linkedPatients(statement.statement);
    await audit.record({ ...requestContext(c), action: "statement.read", subject: accountId, details, patientIds });
    return answer(c, format, statementDocument(statement, clinic, clinicTimeZone), () => statementJson(statement));
  });

  show(showPayerStatement, async (c) => {
    const { from: fromDate, to: toDate, currency: currencyCode, ...query } = c.req.valid("query");
    requirePeriod({ from: fromDate, to: toDate });
    const format = formatOf(c, query.format);
    const caller = c.get("caller");
    const payer = await concealing.conceal(caller, PayerSchema, await payers.get(c.req.valid("param").payerId));
    const days = { fromDate, toDate };
    const opened = await statements.ofPayer({ payerId: payer.payerId, currency: currencyCode, ...days });
    const statement = { ...opened, parts: concealing.parts(caller, opened.parts) };
    const details = { ...days, currencyCode, format, ids: statement.accountIds };
    const patientIds = await patientsOf(statement.accountIds);
    await audit.record({ ...requestContext(c), action: "payer_statement.read", subject: payer.payerId, details, patientIds });
    return answer(c, format, payerStatementDocument({ payer, ...days, statement }, clinic, clinicTimeZone), () =>
      payerStatementJson({ payer, currencyCode, ...days, statement }),
    );
  });
}

async function* whole(text: string): AsyncGenerator<string> {
  yield text;
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

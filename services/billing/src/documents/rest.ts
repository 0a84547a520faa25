/** Billing's pages: invoices and statements for people, and the totals that analytics compares itself with. */
import { toJsonString } from "@bufbuild/protobuf";
import { createRoute, z } from "@hono/zod-openapi";
import { AppError } from "@pm/kit/errors";
import type { RestApp, RestContext } from "@pm/kit/http/rest";
import { GetStatementResponseSchema, InvoiceSchema } from "@pm/proto/billing/v1/billing";
import { accepts } from "hono/accepts";
import type { Accounts } from "../accounts/accounts.ts";
import type { Invoices } from "../invoices/invoices.ts";
import type { History } from "../ledger/history.ts";
import type { Totals } from "../ledger/totals.ts";
import { type Clinic, invoiceSheet, type Sheet, statementSheet } from "./document.ts";
import { contentSecurityPolicy, toHtml } from "./html.ts";
import type { Printer } from "./printer.ts";

/** What the OpenAPI document says of itself. */
export const about = {
  title: "Billing",
  description: "Pages of billing. Its methods are `billing.v1.BillingService`, by gRPC, gRPC-Web or Connect.",
};

const mediaTypes = { html: "text/html", pdf: "application/pdf", json: "application/json" } as const;
type Format = keyof typeof mediaTypes;

const formatQuery = z
  .enum(["html", "pdf", "json"])
  .optional()
  .openapi({ description: "What to answer; by the Accept header where it is not given, HTML where that says nothing." });
const day = z
  .string()
  .regex(/^\d{4}-\d{2}-\d{2}$/, "must be a day, YYYY-MM-DD")
  .openapi({ example: "2026-11-21" });
const text = z.string();
const contents = {
  "text/html": { schema: text },
  "application/pdf": { schema: text.openapi({ format: "binary" }) },
  "application/json": { schema: z.looseObject({}) },
};

const showInvoice = {
  ...createRoute({
    method: "get",
    path: "/billing/invoices/{id}",
    summary: "Show an invoice",
    request: { params: z.object({ id: z.uuid() }), query: z.object({ format: formatQuery }) },
    responses: { 200: { description: "The invoice, to be read or printed", content: contents } },
  }),
  operationId: "showInvoice",
};
const showStatement = {
  ...createRoute({
    method: "get",
    path: "/billing/statements/{accountId}",
    summary: "Show the statement of an account for a period",
    request: { params: z.object({ accountId: z.uuid() }), query: z.object({ from: day, to: day, format: formatQuery }) },
    responses: { 200: { description: "The statement, to be read or printed", content: contents } },
  }),
  operationId: "showStatement",
};
const money = z
  .string()
  .openapi({ description: "Minor units; text, because many readers round JSON numbers above 2^53", example: "125000" });
const totalsSchema = z
  .object({
    asOf: z.iso.datetime(),
    accounts: z.object({ active: z.int(), suspended: z.int(), closed: z.int() }),
    transactions: z
      .int()
      .openapi({ description: "How many there are: as many events of charges, payments, refunds and voids were or will be told" }),
    pendingEvents: z.int().openapi({ description: "Events that Kafka does not have yet" }),
    currencies: z.array(
      z.object({
        currencyCode: z.string(),
        charged: money,
        voided: money,
        paid: money,
        refunded: money,
        outstanding: money,
        credit: money,
      }),
    ),
  })
  .openapi("BillingTotals");
const readBillingTotals = {
  ...createRoute({
    method: "get",
    path: "/billing:totals",
    summary: "Sum up the ledger, for consistency checks",
    responses: { 200: { description: "The sums at one moment", content: { "application/json": { schema: totalsSchema } } } },
  }),
  operationId: "readBillingTotals",
};

export type PageRules = {
  accounts: Accounts;
  invoices: Invoices;
  history: History;
  totals: Totals;
  printer: Printer;
  clinic: Clinic;
  now: () => Date;
};

export function registerPages({ operation }: RestApp, rules: PageRules): void {
  const { accounts, invoices, history, totals, printer, clinic, now } = rules;

  async function answer(c: RestContext, format: Format, sheet: Sheet, json: () => string): Promise<Response> {
    const headers = {
      "content-type": format === "pdf" ? mediaTypes.pdf : `${mediaTypes[format]}; charset=utf-8`,
      // Names and amounts: for the reader, not for anything between.
      "cache-control": "private, no-store",
      vary: "accept, authorization",
      "x-content-type-options": "nosniff",
      ...(format !== "json" && { "content-disposition": `inline; filename="${sheet.fileName}.${format}"` }),
      ...(format === "html" && { "content-security-policy": contentSecurityPolicy }),
    };
    if (format === "json") return c.body(json(), 200, headers);
    if (format === "html") return c.body(await toHtml(sheet), 200, headers);
    return c.body(new Uint8Array(await printer.print(sheet, now())), 200, headers);
  }

  operation(showInvoice, async (c) => {
    const format = formatOf(c, c.req.valid("query").format);
    const invoice = await invoices.get(c.req.valid("param").id);
    const account = await accounts.get({ accountId: invoice.accountId });
    return answer(c, format, invoiceSheet(invoice, account, clinic), () => toJsonString(InvoiceSchema, invoice));
  });

  operation(showStatement, async (c) => {
    const { from: fromDate, to: toDate, format } = c.req.valid("query");
    const wanted = formatOf(c, format);
    const statement = await history.statement({ accountId: c.req.valid("param").accountId, fromDate, toDate });
    return answer(c, wanted, statementSheet(statement, clinic), () => toJsonString(GetStatementResponseSchema, statement));
  });

  operation(readBillingTotals, async (c) => c.json(await totals(), 200));
}

function formatOf(c: RestContext, asked: Format | undefined): Format {
  if (asked) return asked;
  const supports = Object.values(mediaTypes);
  const none = "none";
  const best = accepts(c, { header: "Accept", supports: [...supports], default: c.req.header("accept") ? none : mediaTypes.html });
  const format = (Object.keys(mediaTypes) as Format[]).find((key) => mediaTypes[key] === best);
  if (format) return format;
  if (/\*\/\*|text\/\*/.test(c.req.header("accept") ?? "")) return "html";
  throw new AppError("not_acceptable", `Accept one of ${supports.join(", ")}, or say ?format=html, pdf or json.`);
}

/** The books of a period, for accountants: the journal, the general ledger and the tax summary. */
import { createRoute, z } from "@hono/zod-openapi";
import type { AuditTrail } from "@pm/kit/audit/trail";
import type { Caller } from "@pm/kit/auth/verifier";
import { type RestApp, requestContext } from "@pm/kit/http/rest";
import { errorAnswers, jsonAnswer } from "@pm/kit/http/schemas";
import { textStream } from "@pm/kit/http/text-stream";
import type { Books } from "./journal.ts";

const day = z
  .string()
  .regex(/^\d{4}-\d{2}-\d{2}$/, "must be a day, YYYY-MM-DD")
  .openapi({ example: "2026-11-21" });
const period = {
  from: day.openapi({ description: "The first day of the period, in the clinic's time zone.", example: "2026-01-01" }),
  to: day.openapi({ description: "The last day of the period, in the clinic's time zone.", example: "2026-12-31" }),
};
const minorUnits = z
  .string()
  .openapi({ description: "Minor units, as text: a sum may exceed what a JSON number holds.", example: "12500" });

const fileFormats = ["csv", "ndjson"] as const;
const file = {
  query: z.object({
    ...period,
    format: z.enum(fileFormats).default("csv").openapi({ description: "The form of the file.", example: "csv" }),
  }),
};
const fileContent = { "text/csv": { schema: z.string() }, "application/x-ndjson": { schema: z.string() } };

const exportJournal = createRoute({
  method: "get",
  path: "/billing/journal",
  operationId: "exportJournal",
  tags: ["Books"],
  summary: "Export the journal of a period",
  description: `One line for each entry, in the order of time. The entries of a transaction sum to zero in each currency: debits are
positive, credits negative. A transaction and a ledger account together identify an entry for ever. A reallocation moves no money, so it
has no entry.`,
  request: file,
  responses: { 200: { description: "The entries as a stream", content: fileContent }, ...errorAnswers() },
});

const exportTaxSummary = createRoute({
  method: "get",
  path: "/billing/tax-summary",
  operationId: "exportTaxSummary",
  tags: ["Books"],
  summary: "Sum up the tax of a period",
  description: `One line for each currency, tax, rate and kind of transaction: net, tax and gross of charges, and, as negative amounts, of
voids, discounts and credit notes. What has no tax has an empty code. The nets of a currency are the change of its revenue in the general
ledger, and its taxes are the change of its tax payable. A write-off changes neither, so it is not part of this.`,
  request: file,
  responses: { 200: { description: "The sums", content: fileContent }, ...errorAnswers() },
});

const LedgerSchema = z
  .object({
    from: day,
    to: day,
    accounts: z.array(
      z.object({
        currencyCode: z.string().openapi({ example: "EUR" }),
        ledgerAccount: z.enum(["RECEIVABLE", "CREDIT", "REVENUE", "CASH", "BAD_DEBT", "TAX_PAYABLE"]).openapi({ example: "CASH" }),
        opening: minorUnits,
        debits: minorUnits,
        credits: minorUnits,
        closing: minorUnits,
      }),
    ),
  })
  .openapi("GeneralLedger", { description: "Opening + debits − credits = closing. The closings of a currency sum to zero." });

const readGeneralLedger = createRoute({
  method: "get",
  path: "/billing/general-ledger",
  operationId: "readGeneralLedger",
  tags: ["Books"],
  summary: "Sum up every ledger account for a period",
  description: `Over all billing accounts, by currency. Debits are positive, so revenue and credit have negative balances. A file has one line
for each currency and ledger account, which together identify it, with the same fields.`,
  request: {
    query: z.object({
      ...period,
      format: z
        .enum(["json", ...fileFormats])
        .default("json")
        .openapi({ description: "The form of the answer: one JSON object, or a file.", example: "csv" }),
    }),
  },
  responses: {
    200: { description: "The ledger accounts", content: { ...jsonAnswer(LedgerSchema, "").content, ...fileContent } },
    ...errorAnswers(),
  },
});

type Rules = {
  books: Books;
  /** Those of some accounts whose texts the caller may not read. */
  concealed: (caller: Caller, accountIds: string[]) => Promise<Set<string>>;
  audit: AuditTrail;
  patientsOf: (accountIds: string[]) => Promise<string[]>;
};

export function registerBooks({ operation }: RestApp, { books, concealed, audit, patientsOf }: Rules): void {
  operation(
    exportJournal,
    async (c) => {
      const { from, to, format } = c.req.valid("query");
      const entry = { ...requestContext(c), action: "journal.exported", subject: "journal", details: { from, to, format } };
      const caller = c.get("caller");
      const lines = books.journal({ from, to }, format, async (accountIds) => {
        await audit.record({ ...entry, action: "journal.page_exported", patientIds: await patientsOf(accountIds) });
        return { concealed: await concealed(caller, accountIds) };
      });
      await audit.record(entry);
      return c.body(textStream(c, lines), 200, fileHeaders(`journal-${from}-${to}`, format));
    },
    { streams: true },
  );

  operation(exportTaxSummary, async (c) => {
    const { from, to, format } = c.req.valid("query");
    const text = await books.taxSummary({ from, to }, format);
    const details = { from, to, format };
    await audit.record({ ...requestContext(c), action: "tax_summary.exported", subject: "tax summary", details });
    return c.body(text, 200, fileHeaders(`tax-summary-${from}-${to}`, format));
  });

  operation(readGeneralLedger, async (c) => {
    const { from, to, format } = c.req.valid("query");
    if (format === "json") return c.json(await books.generalLedger({ from, to }), 200);
    const text = await books.generalLedgerFile({ from, to }, format);
    const details = { from, to, format };
    await audit.record({ ...requestContext(c), action: "general_ledger.exported", subject: "general ledger", details });
    return c.body(text, 200, fileHeaders(`general-ledger-${from}-${to}`, format));
  });
}

function fileHeaders(name: string, format: "csv" | "ndjson"): Record<string, string> {
  return {
    "content-type": format === "csv" ? "text/csv; charset=utf-8" : "application/x-ndjson",
    "content-disposition": `attachment; filename="${name}.${format}"`,
    "cache-control": "private, no-store",
  };
}

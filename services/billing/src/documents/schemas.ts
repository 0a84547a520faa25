/** Invoices and statements as JSON: the protobuf JSON of their messages, which leaves out empty texts and zeros. */
import { z } from "@hono/zod-openapi";

const id = z.string().openapi({ format: "uuid", example: "0199b1c2-7d3e-7f00-8a4b-5c6d7e8f9a0b" });
const day = z.string().openapi({ format: "date", example: "2026-11-21" });
const time = z.string().openapi({ format: "date-time", example: "2026-11-21T09:30:00Z" });
const int64 = z.string().openapi({ description: "A whole number, as text.", example: "12500" });

const MoneySchema = z
  .object({
    currencyCode: z.string().optional().openapi({ description: "ISO 4217.", example: "EUR" }),
    minorUnits: int64.optional().openapi({ description: "Minor units, such as cents, as text. Left out if it is 0." }),
  })
  .openapi("Money");
const money = MoneySchema.optional();

const AllocationSchema = z
  .object({ chargeId: id, amount: money })
  .openapi("Allocation", { description: "How much of a charge is settled (positive) or open again (negative)." });

const TaxSchema = z
  .object({
    code: z.string().optional().openapi({ description: "Left out for what has no tax.", example: "VAT" }),
    rateBasisPoints: z.int().optional().openapi({ description: "1900 is 19 %. Left out if it is 0.", example: 1900 }),
    net: money,
    tax: money,
    gross: money,
  })
  .openapi("Tax", { description: "The tax in an amount." });

const lines = z.array(
  z.object({
    chargeId: id,
    description: z.string().openapi({ example: "Consultation" }),
    serviceDate: day,
    amount: money,
    tax: TaxSchema.optional(),
  }),
);
const taxes = z.array(TaxSchema).optional().openapi({ description: "The lines summed up by tax and rate. Left out if no line has a tax." });

const AddresseeSchema = z
  .object({
    payerId: id.optional().openapi({ description: "Left out if the patient pays." }),
    name: z.string().openapi({ example: "Helvetia Health" }),
    address: z.string().optional().openapi({ example: "Bahnhofstrasse 1, 8001 Zürich" }),
    email: z.string().optional().openapi({ example: "claims@example.com" }),
    reference: z.string().optional().openapi({ description: "What the payer wants to read.", example: "Policy 4711" }),
  })
  .openapi("Addressee");
const patientName = z.string().openapi({ description: "The person treated.", example: "Ada Lovelace" });

export const InvoiceJsonSchema = z
  .object({
    invoiceId: id,
    accountId: id,
    number: z.string().optional().openapi({ description: "Left out for a draft.", example: "2026-000001" }),
    status: z.enum([
      "INVOICE_STATUS_DRAFT",
      "INVOICE_STATUS_ISSUED",
      "INVOICE_STATUS_PAID",
      "INVOICE_STATUS_VOID",
      "INVOICE_STATUS_CREDITED",
      "INVOICE_STATUS_WRITTEN_OFF",
    ]),
    total: money,
    outstanding: money,
    credited: money,
    writtenOff: money,
    issueDate: day.optional(),
    dueDate: day.optional(),
    lines,
    taxes,
    createTime: time,
    voidTime: time.optional(),
    etag: z.string().openapi({ example: "v2" }),
    addressee: AddresseeSchema,
    patientName,
    patientId: id,
  })
  .openapi("Invoice");

export const CreditNoteJsonSchema = z
  .object({
    creditNoteId: id,
    accountId: id,
    invoiceId: id,
    invoiceNumber: z.string().openapi({ example: "2026-000001" }),
    number: z.string().openapi({ example: "CN-2026-000001" }),
    issueDate: day,
    total: money,
    reason: z.string().openapi({ example: "Charged twice" }),
    lines,
    taxes,
    createTime: time,
    addressee: AddresseeSchema,
    patientName,
  })
  .openapi("CreditNote");

const TransactionSchema = z
  .object({
    transactionId: id,
    accountId: id,
    sequence: int64.openapi({ description: "1, 2, 3, … within the account, as text.", example: "1" }),
    type: z.enum([
      "TRANSACTION_TYPE_CHARGE",
      "TRANSACTION_TYPE_VOID",
      "TRANSACTION_TYPE_PAYMENT",
      "TRANSACTION_TYPE_REFUND",
      "TRANSACTION_TYPE_REALLOCATION",
      "TRANSACTION_TYPE_DISCOUNT",
      "TRANSACTION_TYPE_CREDIT_NOTE",
      "TRANSACTION_TYPE_WRITE_OFF",
    ]),
    amount: money,
    balance: money,
    chargeId: id.optional(),
    paymentId: id.optional(),
    refundId: id.optional(),
    description: z.string().optional().openapi({ example: "Consultation" }),
    createTime: time,
    entries: z.array(
      z.object({
        ledgerAccount: z.enum([
          "LEDGER_ACCOUNT_RECEIVABLE",
          "LEDGER_ACCOUNT_CREDIT",
          "LEDGER_ACCOUNT_REVENUE",
          "LEDGER_ACCOUNT_CASH",
          "LEDGER_ACCOUNT_BAD_DEBT",
          "LEDGER_ACCOUNT_TAX_PAYABLE",
        ]),
        amount: money,
      }),
    ),
    allocations: z.array(AllocationSchema).optional(),
    requestId: id,
    paymentDate: day.optional().openapi({ description: "Of a payment, the day on which it was made." }),
  })
  .openapi("Transaction");

const AccountSchema = z
  .object({
    accountId: id,
    patientId: id,
    status: z.enum(["BILLING_ACCOUNT_STATUS_ACTIVE", "BILLING_ACCOUNT_STATUS_SUSPENDED", "BILLING_ACCOUNT_STATUS_CLOSED"]),
    balance: money,
    createTime: time,
    updateTime: time,
    name: z.string().openapi({ example: "Ada Lovelace" }),
    email: z.string().openapi({ example: "ada@example.com" }),
    currencyCode: z.string().openapi({ example: "EUR" }),
    etag: z.string().openapi({ example: "v3" }),
    outstanding: money,
    credit: money,
    transactionCount: int64.optional().openapi({ example: "1" }),
    payerId: id.optional().openapi({ description: "Left out if the patient pays." }),
    mergedIntoAccountId: id.optional().openapi({ description: "The account of the survivor, if the patient's record was merged." }),
  })
  .openapi("BillingAccount");

const sums = {
  fromDate: day,
  toDate: day,
  openingBalance: money,
  closingBalance: money,
  charged: money,
  voided: money,
  paid: money,
  refunded: money,
  discounted: money,
  credited: money,
  writtenOff: money,
  transactionCount: int64.optional().openapi({ description: "The number of transactions, as text. Left out if it is 0.", example: "1" }),
};

const StatementSchema = z.object({ account: AccountSchema, ...sums, transactions: z.array(TransactionSchema) });

export const StatementJsonSchema = StatementSchema.extend({
  linkedStatements: z
    .array(StatementSchema.openapi("LinkedStatement"))
    .optional()
    .openapi({ description: "The statements of accounts of records that were merged into this patient's." }),
  closingBalances: z.array(money).optional().openapi({ description: "With linked accounts: the balances of all, one for each currency." }),
}).openapi("Statement", {
  description: "Opening balance + charged − voided − discounted − credited − writtenOff − paid + refunded = closing balance.",
});

const PayerSchema = z
  .object({
    payerId: id,
    kind: z.enum(["PAYER_KIND_PERSON", "PAYER_KIND_ORGANISATION"]),
    name: z.string().openapi({ example: "Helvetia Health" }),
    address: z.string().optional().openapi({ example: "Bahnhofstrasse 1, 8001 Zürich" }),
    email: z.string().optional().openapi({ example: "claims@example.com" }),
    reference: z.string().optional().openapi({ description: "What the payer wants to read.", example: "Policy 4711" }),
    etag: z.string().openapi({ example: "v1" }),
    createTime: time,
    updateTime: time,
  })
  .openapi("Payer");

export const PayerStatementJsonSchema = z
  .object({
    payer: PayerSchema,
    currencyCode: z.string().openapi({ description: "ISO 4217.", example: "EUR" }),
    ...sums,
    outstanding: money.openapi({ description: "What is open after the period on the accounts that owe." }),
    credit: money.openapi({ description: "The credit of the others, which settles nothing on these." }),
    invoiced: money.openapi({ description: "What is open now on the invoices that are addressed to the payer, whoever pays today." }),
    statements: z.array(StatementJsonSchema),
  })
  .openapi("PayerStatement", { description: "The sums of all its statements, then the statement of each account." });

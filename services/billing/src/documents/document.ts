/** Invoices and statements as printable documents: all their texts and tables, before they become HTML or PDF. */
import { timestampMs } from "@bufbuild/protobuf/wkt";
import { localDateAt, utcMidnight } from "@pm/kit/calendar";
import { formatMoney } from "@pm/kit/money";
import { type BillingAccount, type GetStatementResponse, type Invoice, InvoiceStatus, TransactionType } from "@pm/proto/billing/v1/billing";
import type { Money } from "@pm/proto/common/v1/money";

/** The sender. */
export type Clinic = { name: string; address: string; paymentDetails: string };

export type PrintableDocument = {
  /** The heading, which is also the title in the file. */
  title: string;
  /** A word at the top of invoices that are not to be paid: of drafts, void and paid ones. */
  stamp: string | undefined;
  clinic: Clinic;
  addressee: string[];
  /** Number, dates and similar. */
  facts: { label: string; value: string }[];
  table: {
    caption: string;
    columns: { label: string; isAmount: boolean; share: number }[];
    rows: string[][];
  };
  /** Sums under the table. The last one is emphasised. */
  totals: { label: string; value: string }[];
  notes: string[];
  /** The name under which it is saved, without the extension. */
  fileName: string;
};

const stamps: Partial<Record<InvoiceStatus, string>> = {
  [InvoiceStatus.DRAFT]: "Draft",
  [InvoiceStatus.PAID]: "Paid",
  [InvoiceStatus.VOID]: "Void",
};

export function invoiceDocument(invoice: Invoice, account: Pick<BillingAccount, "name" | "email">, clinic: Clinic): PrintableDocument {
  const { number, total, outstanding, status } = invoice;
  const isDue = status === InvoiceStatus.ISSUED;
  const paid = (total?.minorUnits ?? 0n) - (outstanding?.minorUnits ?? 0n);
  return {
    title: number ? `Invoice ${number}` : "Invoice (draft)",
    stamp: stamps[status],
    clinic,
    addressee: [account.name, account.email].filter(Boolean),
    facts: [
      { label: "Invoice number", value: number || "given when it is issued" },
      { label: "Date", value: readableDate(invoice.issueDate) || "not issued" },
      { label: "Due", value: readableDate(invoice.dueDate) || "30 days after issue" },
    ],
    table: {
      caption: "Services",
      columns: [
        { label: "Date", isAmount: false, share: 0.2 },
        { label: "Service", isAmount: false, share: 0.55 },
        { label: "Amount", isAmount: true, share: 0.25 },
      ],
      rows: invoice.lines.map((line) => [readableDate(line.serviceDate), line.description, formatMoney(line.amount)]),
    },
    totals: [
      { label: "Total", value: formatMoney(total) },
      ...(paid > 0n && status !== InvoiceStatus.VOID
        ? [{ label: "Paid", value: formatMoney({ currencyCode: total?.currencyCode ?? "", minorUnits: -paid }) }]
        : []),
      ...(isDue || status === InvoiceStatus.PAID ? [{ label: "To be paid", value: formatMoney(outstanding) }] : []),
    ],
    notes: [
      ...(isDue ? [`Please pay by ${readableDate(invoice.dueDate)} and quote the invoice number ${number}.`, clinic.paymentDetails] : []),
      ...(status === InvoiceStatus.PAID ? ["This invoice is paid. Thank you."] : []),
      ...(status === InvoiceStatus.VOID ? ["This invoice is void. Nothing is to be paid for it."] : []),
      ...(status === InvoiceStatus.DRAFT ? ["This is a draft. It is not a request for payment."] : []),
    ],
    fileName: number ? `invoice-${number}` : "invoice-draft",
  };
}

const movements: Record<TransactionType, string> = {
  [TransactionType.UNSPECIFIED]: "",
  [TransactionType.CHARGE]: "Charge",
  [TransactionType.VOID]: "Charge voided",
  [TransactionType.PAYMENT]: "Payment",
  [TransactionType.REFUND]: "Refund",
};

/** @param clinicTimeZone the zone that gives each transaction its day */
export function statementDocument(statement: GetStatementResponse, clinic: Clinic, clinicTimeZone: string): PrintableDocument {
  const { account, fromDate, toDate: lastDate, openingBalance, closingBalance } = statement;
  const closing = closingBalance?.minorUnits ?? 0n;
  return {
    title: "Statement of account",
    stamp: undefined,
    clinic,
    addressee: [account?.name ?? "", account?.email ?? ""].filter(Boolean),
    facts: [
      { label: "Account", value: account?.accountId ?? "" },
      { label: "From", value: readableDate(fromDate) },
      { label: "To", value: readableDate(lastDate) },
    ],
    table: {
      caption: "Transactions",
      columns: [
        { label: "Date", isAmount: false, share: 0.19 },
        { label: "What", isAmount: false, share: 0.41 },
        { label: "Amount", isAmount: true, share: 0.2 },
        { label: "Balance", isAmount: true, share: 0.2 },
      ],
      rows: [
        [readableDate(fromDate), "Balance brought forward", "", formatMoney(openingBalance)],
        ...statement.transactions.map((transaction) => [
          readableDate(transaction.createTime ? localDateAt(timestampMs(transaction.createTime), clinicTimeZone) : ""),
          [movements[transaction.type], transaction.description].filter(Boolean).join(": "),
          formatMoney(transaction.amount),
          formatMoney(transaction.balance),
        ]),
      ],
    },
    totals: [
      { label: "Charged", value: formatMoney(statement.charged) },
      { label: "Voided", value: formatMoney(statement.voided) },
      { label: "Paid", value: formatMoney(statement.paid) },
      { label: "Refunded", value: formatMoney(statement.refunded) },
      { label: closing < 0n ? "Balance in your favour" : "Balance", value: formatMoney(absolute(closingBalance)) },
    ],
    notes: closing > 0n ? [clinic.paymentDetails] : [],
    fileName: `statement-${fromDate}-${lastDate}`,
  };
}

// Creating a format takes a hundred times as long as using it.
const dateFormat = new Intl.DateTimeFormat("en-GB", { dateStyle: "medium", timeZone: "UTC" });

/** `21 Nov 2026`, which no reader takes for another day. */
function readableDate(date: string): string {
  if (date === "") return "";
  return dateFormat.format(utcMidnight(date));
}

function absolute(money: Money | undefined): Pick<Money, "currencyCode" | "minorUnits"> | undefined {
  return money && { currencyCode: money.currencyCode, minorUnits: money.minorUnits < 0n ? -money.minorUnits : money.minorUnits };
}

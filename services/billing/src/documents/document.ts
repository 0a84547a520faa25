/** Invoices and statements as printable documents: all their texts and tables, before they become HTML or PDF. */
import { timestampMs } from "@bufbuild/protobuf/wkt";
import { localDateAt, utcMidnight } from "@pm/kit/calendar";
import { formatMoney } from "@pm/kit/money";
import { type CreditNote, type GetStatementResponse, type Invoice, InvoiceStatus, TransactionType } from "@pm/proto/billing/v1/billing";
import type { Tax } from "@pm/proto/billing/v1/events";
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
  [InvoiceStatus.CREDITED]: "Credited",
  [InvoiceStatus.WRITTEN_OFF]: "Closed",
};

/** The services with their amounts, and with their taxes if any of them has one. */
function serviceTable(caption: string, { lines, taxes }: Invoice | CreditNote): PrintableDocument["table"] {
  const hasTax = taxes.length > 0;
  return {
    caption,
    columns: [
      { label: "Date", isAmount: false, share: 0.2 },
      { label: "Service", isAmount: false, share: hasTax ? 0.4 : 0.55 },
      ...(hasTax ? [{ label: "Tax", isAmount: false, share: 0.15 }] : []),
      { label: "Amount", isAmount: true, share: 0.25 },
    ],
    rows: lines.map(({ serviceDate, description, tax, amount }) => [
      readableDate(serviceDate),
      description,
      ...(hasTax ? [tax ? nameOf(tax) : ""] : []),
      formatMoney(amount),
    ]),
  };
}

/** Net and tax of each rate. */
function taxTotals({ taxes }: Invoice | CreditNote): PrintableDocument["totals"] {
  return taxes.flatMap((sum) =>
    sum.code === ""
      ? [{ label: "Without tax", value: formatMoney(sum.gross) }]
      : [
          { label: `Net, ${nameOf(sum)}`, value: formatMoney(sum.net) },
          { label: nameOf(sum), value: formatMoney(sum.tax) },
        ],
  );
}

/** `VAT 7.5%` */
function nameOf({ code, rateBasisPoints }: Tax): string {
  return `${code} ${rateBasisPoints / 100}%`;
}

export function invoiceDocument(invoice: Invoice, clinic: Clinic): PrintableDocument {
  const { number, total, outstanding, status } = invoice;
  const isDue = status === InvoiceStatus.ISSUED;
  const [credited, writtenOff] = [invoice.credited?.minorUnits ?? 0n, invoice.writtenOff?.minorUnits ?? 0n];
  const paid = (total?.minorUnits ?? 0n) - (outstanding?.minorUnits ?? 0n) - credited - writtenOff;
  const currencyCode = total?.currencyCode ?? "";
  const less = (label: string, amount: bigint) =>
    amount > 0n ? [{ label, value: formatMoney({ currencyCode, minorUnits: -amount }) }] : [];
  return {
    title: number ? `Invoice ${number}` : "Invoice (draft)",
    stamp: stamps[status],
    clinic,
    addressee: addresseeOf(invoice),
    facts: [
      { label: "Invoice number", value: number || "given when it is issued" },
      { label: "Date", value: readableDate(invoice.issueDate) || "not issued" },
      { label: "Due", value: readableDate(invoice.dueDate) || "30 days after issue" },
      ...payerFacts(invoice),
    ],
    table: serviceTable("Services", invoice),
    totals: [
      ...taxTotals(invoice),
      { label: "Total", value: formatMoney(total) },
      ...less("Credited", credited),
      ...(status === InvoiceStatus.VOID ? [] : less("Paid", paid)),
      ...less("Written off", writtenOff),
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

export function creditNoteDocument(note: CreditNote, clinic: Clinic): PrintableDocument {
  return {
    title: `Credit note ${note.number}`,
    stamp: undefined,
    clinic,
    addressee: addresseeOf(note),
    facts: [
      { label: "Credit note number", value: note.number },
      { label: "Date", value: readableDate(note.issueDate) },
      { label: "For the invoice", value: note.invoiceNumber },
      { label: "Reason", value: note.reason },
      ...payerFacts(note),
    ],
    table: serviceTable("Credited services", note),
    totals: [...taxTotals(note), { label: "Credited", value: formatMoney(note.total) }],
    notes: ["You do not owe this amount any longer. What you have paid of it is credit on your account."],
    fileName: `credit-note-${note.number}`,
  };
}

/** Name and addresses, one a line. */
function addresseeOf({ addressee }: Invoice | CreditNote): string[] {
  return addressee ? [addressee.name, addressee.address, addressee.email].filter(Boolean) : [];
}

/** What a payer has to know, who is not the person treated. */
function payerFacts({ addressee, patientName }: Invoice | CreditNote): PrintableDocument["facts"] {
  if (!addressee?.payerId) return [];
  const { reference } = addressee;
  return [{ label: "Patient", value: patientName }, ...(reference ? [{ label: "Your reference", value: reference }] : [])];
}

const movements: Record<TransactionType, string> = {
  [TransactionType.UNSPECIFIED]: "",
  [TransactionType.CHARGE]: "Charge",
  [TransactionType.VOID]: "Charge voided",
  [TransactionType.PAYMENT]: "Payment",
  [TransactionType.REFUND]: "Refund",
  [TransactionType.REALLOCATION]: "Payment reallocated",
  [TransactionType.DISCOUNT]: "Discount",
  [TransactionType.CREDIT_NOTE]: "Credit note",
  [TransactionType.WRITE_OFF]: "Written off",
};

/** @param clinicTimeZone the zone that gives each transaction its day */
export function statementDocument(statement: GetStatementResponse, clinic: Clinic, clinicTimeZone: string): PrintableDocument {
  const { account, fromDate, toDate: lastDate, closingBalance } = statement;
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
        ...rowsOf(statement, clinicTimeZone),
        ...statement.linkedStatements.flatMap((linked) => [
          ["", `Account ${linked.account?.accountId}`, "", ""],
          ...rowsOf(linked, clinicTimeZone),
        ]),
      ],
    },
    totals: [
      { label: "Charged", value: formatMoney(statement.charged) },
      { label: "Voided", value: formatMoney(statement.voided) },
      ...present("Discounted", statement.discounted),
      ...present("Credited", statement.credited),
      ...present("Written off", statement.writtenOff),
      { label: "Paid", value: formatMoney(statement.paid) },
      { label: "Refunded", value: formatMoney(statement.refunded) },
      { label: closing < 0n ? "Balance in your favour" : "Balance", value: formatMoney(absolute(closingBalance)) },
      ...statement.closingBalances.map((balance) => ({ label: "Balance of all accounts", value: formatMoney(balance) })),
    ],
    notes: closing > 0n ? [clinic.paymentDetails] : [],
    fileName: `statement-${fromDate}-${lastDate}`,
  };
}

function rowsOf({ fromDate, openingBalance, transactions }: GetStatementResponse, clinicTimeZone: string): string[][] {
  return [
    [readableDate(fromDate), "Balance brought forward", "", formatMoney(openingBalance)],
    ...transactions.map((transaction) => [
      readableDate(transaction.createTime ? localDateAt(timestampMs(transaction.createTime), clinicTimeZone) : ""),
      [movements[transaction.type], transaction.description].filter(Boolean).join(": "),
      formatMoney(transaction.amount),
      formatMoney(transaction.balance),
    ]),
  ];
}

// Creating a format takes a hundred times as long as using it.
const dateFormat = new Intl.DateTimeFormat("en-GB", { dateStyle: "medium", timeZone: "UTC" });

/** `21 Nov 2026`, which no reader takes for another day. */
function readableDate(date: string): string {
  if (date === "") return "";
  return dateFormat.format(utcMidnight(date));
}

/** A sum that most statements do not have. */
function present(label: string, money: Money | undefined): { label: string; value: string }[] {
  return money && money.minorUnits !== 0n ? [{ label, value: formatMoney(money) }] : [];
}

function absolute(money: Money | undefined): Pick<Money, "currencyCode" | "minorUnits"> | undefined {
  return money && { currencyCode: money.currencyCode, minorUnits: money.minorUnits < 0n ? -money.minorUnits : money.minorUnits };
}

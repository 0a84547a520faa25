/** Invoices and credit notes as the messages that callers get. */
import { create, type MessageInitShape } from "@bufbuild/protobuf";
import { timestampFromDate } from "@bufbuild/protobuf/wkt";
import {
  type AddresseeSchema,
  type CreditNote,
  CreditNoteSchema,
  type Invoice,
  type InvoiceLineSchema,
  InvoiceSchema,
  InvoiceStatus,
} from "@pm/proto/billing/v1/billing";
import type { Tax } from "@pm/proto/billing/v1/events";
import { toMoney } from "../accounts/messages.ts";
import { toTax, toTaxField } from "../ledger/messages.ts";
import { sumByRate, type Taxed, taxIn } from "../ledger/tax.ts";
import type { Addressee } from "../tables.ts";
import type { CreditNoteLineRow, CreditNoteRow } from "./credit-note-store.ts";
import type { InvoiceLineRow, InvoiceRow } from "./store.ts";

export function invoiceEtag(invoice: Pick<InvoiceRow, "version">): string {
  return `v${invoice.version}`;
}

export function toInvoice(row: InvoiceRow, lines: InvoiceLineRow[]): Invoice {
  const { currency } = row;
  return create(InvoiceSchema, {
    invoiceId: row.id,
    accountId: row.account_id,
    patientId: row.patient_id,
    number: row.number ?? "",
    status: InvoiceStatus[row.state],
    total: toMoney(row.total, currency),
    outstanding: toMoney(row.outstanding, currency),
    credited: toMoney(row.credited, currency),
    writtenOff: toMoney(row.written_off, currency),
    issueDate: row.issue_date ?? "",
    dueDate: row.due_date ?? "",
    createTime: timestampFromDate(row.created_at),
    ...(row.voided_at && { voidTime: timestampFromDate(row.voided_at) }),
    etag: invoiceEtag(row),
    addressee: toAddressee(row.addressee),
    patientName: row.addressee.patientName,
    ...toLines(withTax(lines), currency),
  });
}

export function toCreditNote(row: CreditNoteRow, lines: CreditNoteLineRow[]): CreditNote {
  const { currency } = row;
  return create(CreditNoteSchema, {
    creditNoteId: row.id,
    accountId: row.account_id,
    invoiceId: row.invoice_id,
    invoiceNumber: row.invoice_number,
    number: row.number,
    issueDate: row.issue_date,
    total: toMoney(row.total, currency),
    reason: row.reason,
    createTime: timestampFromDate(row.created_at),
    addressee: toAddressee(row.addressee),
    patientName: row.addressee.patientName,
    ...toLines(lines, currency),
  });
}

function toAddressee({ payerId, name, address, email, reference }: Addressee): MessageInitShape<typeof AddresseeSchema> {
  return { payerId, name, address, email, reference };
}

/** The lines, and their sums by tax and rate. */
function toLines(rows: CreditNoteLineRow[], currency: string): { lines: MessageInitShape<typeof InvoiceLineSchema>[]; taxes: Tax[] } {
  const taxed = rows.map(({ tax_code: code, tax_rate: rate, amount: gross, tax }): Taxed => ({ code, rate, gross, tax }));
  return {
    lines: rows.map((row, index) => ({
      chargeId: row.charge_id,
      description: row.description,
      serviceDate: row.service_date,
      amount: toMoney(row.amount, currency),
      ...toTaxField(taxed[index] as Taxed, currency),
    })),
    taxes: sumByRate(taxed).map((sum) => toTax(sum, currency)),
  };
}

/** A discount is a line after that of its charge, and takes off the tax by which the tax on the rest is less. */
function withTax(lines: InvoiceLineRow[]): CreditNoteLineRow[] {
  const sums = new Map<string, bigint>();
  return lines.map((line) => {
    const before = sums.get(line.charge_id) ?? 0n;
    const after = before + line.amount;
    sums.set(line.charge_id, after);
    return { ...line, tax: taxIn(after, line.tax_rate) - taxIn(before, line.tax_rate) };
  });
}

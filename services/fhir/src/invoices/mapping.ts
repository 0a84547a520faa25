/** The mapping of an invoice, ours → FHIR. docs/fhir.md has it as a table. */
import { type Addressee, type Invoice, type InvoiceLine, InvoiceStatus } from "@pm/proto/billing/v1/billing";
import type { Money } from "@pm/proto/common/v1/money";
import type * as fhir from "fhir/r4.js";
import { amountExtension, extensionUrl, referTo, toFactor, toMoney, toPayer } from "../billing/elements.ts";
import { ours } from "../protocol/resource.ts";

export const statusSystem = "http://hl7.org/fhir/invoice-status";
export const statuses = {
  draft: [InvoiceStatus.DRAFT],
  issued: [InvoiceStatus.ISSUED],
  balanced: [InvoiceStatus.PAID, InvoiceStatus.CREDITED, InvoiceStatus.WRITTEN_OFF],
  cancelled: [InvoiceStatus.VOID],
} as const;
const toStatus: Record<InvoiceStatus, fhir.Invoice["status"]> = {
  [InvoiceStatus.UNSPECIFIED]: "entered-in-error",
  [InvoiceStatus.DRAFT]: "draft",
  [InvoiceStatus.ISSUED]: "issued",
  [InvoiceStatus.PAID]: "balanced",
  [InvoiceStatus.CREDITED]: "balanced",
  [InvoiceStatus.WRITTEN_OFF]: "balanced",
  [InvoiceStatus.VOID]: "cancelled",
};

/** The system of invoice numbers. */
export const numberSystem = `${ours}/invoice-numbers`;

type Component = fhir.InvoiceLineItemPriceComponent;

/** A line of ours has its tax in it; here both stand apart. A discount is a line with a negative amount. */
function toComponents({ amount, tax }: InvoiceLine): Component[] {
  const net = tax?.net ?? amount;
  const type = (net?.minorUnits ?? 0n) < 0n ? "discount" : "base";
  return [{ type, amount: toMoney(net) }, ...(tax ? [toTaxComponent(tax)] : [])];
}

const toTaxComponent = ({ code, rateBasisPoints, tax }: NonNullable<InvoiceLine["tax"]>): Component => ({
  type: "tax",
  ...(code && { code: { text: code } }),
  factor: toFactor(rateBasisPoints),
  amount: toMoney(tax),
});

const toRecipient = (patientId: string, { payerId, name }: Addressee): fhir.Reference =>
  payerId ? toPayer(payerId, name) : { ...referTo("Patient", patientId), ...(name && { display: name }) };

/** The total without its taxes. */
function netOf(total: Money | undefined, taxes: Invoice["taxes"]): Money | undefined {
  return total && { ...total, minorUnits: taxes.reduce((rest, { tax }) => rest - (tax?.minorUnits ?? 0n), total.minorUnits) };
}

export function toInvoice(invoice: Invoice): fhir.Invoice {
  const { invoiceId, accountId, patientId, number, issueDate, dueDate, lines, taxes, addressee, total } = invoice;
  const due = dueDate ? [{ url: extensionUrl("invoice-due-date"), valueDate: dueDate }] : [];
  const taxed = taxes.filter(({ code }) => code !== "");
  return {
    resourceType: "Invoice",
    id: invoiceId,
    meta: { versionId: invoice.etag.replace(/^v/, "") },
    extension: [
      ...due,
      amountExtension("invoice-outstanding", invoice.outstanding),
      amountExtension("invoice-credited", invoice.credited),
      amountExtension("invoice-written-off", invoice.writtenOff),
    ],
    ...(number && { identifier: [{ system: numberSystem, value: number }] }),
    status: toStatus[invoice.status],
    subject: referTo("Patient", patientId),
    ...(addressee && { recipient: toRecipient(patientId, addressee) }),
    ...(issueDate && { date: issueDate }),
    account: referTo("Account", accountId),
    ...(lines.length > 0 && {
      lineItem: lines.map((line, index) => ({
        sequence: index + 1,
        chargeItemReference: { ...referTo("ChargeItem", line.chargeId), ...(line.description && { display: line.description }) },
        priceComponent: toComponents(line),
      })),
    }),
    ...(taxed.length > 0 && { totalPriceComponent: taxed.map(toTaxComponent) }),
    totalNet: toMoney(netOf(total, taxed)),
    totalGross: toMoney(total),
  };
}

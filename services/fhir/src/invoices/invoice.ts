/** Invoices: reading one, and finding those of a patient, of a state or of a period. */
import { create } from "@bufbuild/protobuf";
import { AppError } from "@pm/kit/errors";
import { InvoiceSchema, InvoiceStatus } from "@pm/proto/billing/v1/billing";
import { answered, asCaller, type Billing } from "../billing/client.ts";
import { euros } from "../billing/elements.ts";
import { codesOf, daysOf, idsOf, referenceIn, textIn, uuidOf } from "../protocol/criteria.ts";
import { nothing, readable } from "../protocol/readable.ts";
import { numberSystem, statuses, statusSystem, toInvoice } from "./mapping.ts";

const tax = { code: "VAT", rateBasisPoints: 1_900, net: euros(10_000n), tax: euros(1_900n), gross: euros(11_900n) };
const line = { chargeId: "0198c0de-7d5a-7c3b-8a51-5d0c2f9b6e10", description: "Consultation", serviceDate: "2026-01-28" };
const example = create(InvoiceSchema, {
  ...{ invoiceId: "0198c0de-8b02-7f4e-9d3a-1c6e5a7b8f20", accountId: "5f0c5c1e-6a3c-4a53-9f6c-1f2b3c4d5e6f" },
  ...{ patientId: "0193b3f0-8c1a-7b6e-9d2f-3a4b5c6d7e8f", number: "2026-000001", status: InvoiceStatus.ISSUED, etag: "v2" },
  ...{
    issueDate: "2026-01-28",
    dueDate: "2026-02-27",
    addressee: { name: "Ada Lovelace" },
    lines: [{ ...line, amount: euros(11_900n), tax }],
  },
  ...{ taxes: [tax], total: euros(11_900n), outstanding: euros(11_900n), credited: euros(0n), writtenOff: euros(0n) },
});

export function createInvoices({ billing, base }: { billing: Billing; base: string }) {
  return readable<"Invoice">({
    type: "Invoice",
    example: toInvoice(example),
    documentation: "Invoices with their lines.",
    definitions: {
      _id: { type: "token" },
      identifier: { type: "token", documentation: `The number, in the system ${numberSystem}.` },
      patient: { type: "reference" },
      subject: { type: "reference", documentation: "The same as patient." },
      account: { type: "reference" },
      status: { type: "token", documentation: "draft, issued, balanced or cancelled" },
      date: { type: "date", documentation: "The day of issue." },
    },
    includes: {
      account: ({ account }) => [account?.reference],
      subject: ({ subject }) => [subject?.reference],
      patient: ({ subject }) => [subject?.reference],
    },

    async read(call, id) {
      const { invoice } = await answered(billing.getInvoice({ invoiceId: uuidOf(id) }, asCaller(call)));
      if (!invoice) throw new AppError("not_found", "There is no such invoice.");
      return toInvoice(invoice);
    },

    async search(call, search) {
      const [ids, wanted] = [idsOf(search), codesOf(search, "status", statusSystem, statuses)];
      const patientId = referenceIn(search, base, "Patient", "patient", "subject");
      const accountId = referenceIn(search, base, "Account", "account");
      const number = textIn(search, "identifier", numberSystem);
      if (ids?.length === 0 || wanted?.length === 0 || [patientId, accountId, number].includes("")) return nothing;
      const scope = { invoiceIds: ids ?? [], patientId: patientId ?? "", accountId: accountId ?? "", number: number ?? "" };
      const filter = { ...scope, statuses: wanted ?? [], ...daysOf(search, "date"), includeLines: true };
      const request = { ...filter, pageSize: search.count, pageToken: search.cursor ?? "" };
      const { invoices, nextPageToken } = await answered(billing.listInvoices(request, asCaller(call)));
      return { matches: invoices.map(toInvoice), next: nextPageToken || undefined };
    },
  });
}

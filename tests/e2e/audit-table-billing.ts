/** Which audit entry every operation of billing leaves: a part of audit-table.ts. */
import { randomUUID } from "node:crypto";
import type { operations } from "@pm/kit/auth/access";
import { type Call, charge, done, euros, get, ids, issuedInvoice, mutation, newCreditNote, newPayer, rpc, stream } from "./scene.ts";

/**
 * The action of the entry and a call that leaves it, in the trail of the operation's service or of another; or why
 * there is none.
 */
export type AuditRow = { leaves: string; in?: "patient" | "billing" | "auth"; by: () => Call | Promise<Call> } | { none: string };

const forService = "patient-service calls it; what it changes leaves account.linked or account.unlinked (links.int.test.ts)";

export const auditTableOfBilling: Record<
  Exclude<keyof typeof operations & `billing.${string}`, `billing.${string}Audit${string}`>,
  AuditRow
> = {
  "billing.v1.BillingService/CreateBillingAccount": {
    // Patient-service has opened the account of every patient whom a person may name.
    leaves: "account.read",
    by: mutation("CreateBillingAccount", () => ({ patientId: ids.patient, name: "Ada", email: "ada@example.com" })),
  },
  "billing.v1.BillingService/BatchCreateBillingAccounts": {
    leaves: "account.read",
    by: () => rpc("BatchCreateBillingAccounts", { requests: [{ patientId: ids.patient, name: "Ada", email: "ada@example.com" }] }),
  },
  "billing.v1.BillingService/GetBillingAccount": {
    leaves: "account.read",
    by: () => rpc("GetBillingAccount", { accountId: ids.account }),
  },
  "billing.v1.BillingInternalService/GetErasureHolds": { none: "tells patient-service sums and counts, and nobody else" },
  "billing.v1.BillingInternalService/RestrictParty": {
    none: "for patient-service only; leaves account.restricted (erasure.int.test.ts of billing)",
  },
  "billing.v1.BillingInternalService/EraseParty": {
    none: "for patient-service only; leaves account.erased (erasure.int.test.ts of billing)",
  },
  "billing.v1.BillingService/ListBillingAccounts": { leaves: "accounts.listed", by: () => rpc("ListBillingAccounts", {}) },
  "billing.v1.BillingService/UpdateBillingAccount": {
    leaves: "account.read",
    by: mutation("UpdateBillingAccount", () => ({ account: { accountId: ids.account } })),
  },
  "billing.v1.BillingInternalService/LinkAccounts": { none: forService },
  "billing.v1.BillingInternalService/UnlinkAccounts": { none: forService },
  "billing.v1.BillingService/WatchAccount": { leaves: "account.watched", by: () => stream("WatchAccount", { accountId: ids.account }) },
  "billing.v1.BillingService/CreatePayer": {
    leaves: "payer.created",
    by: mutation("CreatePayer", () => ({ kind: "PAYER_KIND_PERSON", name: "Byron" })),
  },
  "billing.v1.BillingService/GetPayer": {
    leaves: "payer.read",
    by: async () => rpc("GetPayer", { payerId: await newPayer() }),
  },
  "billing.v1.BillingService/ListPayers": { leaves: "payers.listed", by: () => rpc("ListPayers", {}) },
  "billing.v1.BillingService/UpdatePayer": {
    leaves: "payer.updated",
    by: async () => rpc("UpdatePayer", { payer: { payerId: await newPayer(), name: "Lovelace" }, requestId: randomUUID() }),
  },
  "billing.v1.BillingService/GetPayerBalance": {
    leaves: "payer_balance.read",
    by: async () => rpc("GetPayerBalance", { payerId: await newPayer() }),
  },
  "billing.v1.BillingService/CreateCharge": {
    leaves: "charge.created",
    by: mutation("CreateCharge", () => ({ accountId: ids.account, amount: euros, description: "Visit" })),
  },
  "billing.v1.BillingService/VoidCharge": {
    leaves: "charge.voided",
    by: async () => {
      const made = await charge(ids.account);
      return rpc("VoidCharge", { chargeId: made.charge.chargeId, reason: "Mistake", requestId: randomUUID() });
    },
  },
  "billing.v1.BillingService/RecordPayment": {
    leaves: "payment.recorded",
    by: mutation("RecordPayment", () => ({ accountId: ids.account, amount: euros, method: "PAYMENT_METHOD_CASH" })),
  },
  "billing.v1.BillingService/ReallocatePayment": {
    leaves: "payment.reallocated",
    by: async () => {
      const { charge: open } = await charge(ids.account);
      return rpc("ReallocatePayment", {
        paymentId: ids.payment,
        allocations: [{ chargeId: open.chargeId, amount: { ...euros, minorUnits: "1" } }],
        requestId: randomUUID(),
      });
    },
  },
  "billing.v1.BillingService/RefundPayment": {
    leaves: "payment.refunded",
    by: mutation("RefundPayment", () => ({ paymentId: ids.payment, amount: { ...euros, minorUnits: "1" }, reason: "Mistake" })),
  },
  "billing.v1.BillingService/GetCharge": {
    leaves: "charge.read",
    by: async () => rpc("GetCharge", { chargeId: (await charge(ids.account)).charge.chargeId }),
  },
  "billing.v1.BillingService/GetPayment": { leaves: "payment.read", by: () => rpc("GetPayment", { paymentId: ids.payment }) },
  "billing.v1.BillingService/ListCharges": { leaves: "charges.listed", by: () => rpc("ListCharges", { accountId: ids.account }) },
  "billing.v1.BillingService/ListPayments": { leaves: "payments.listed", by: () => rpc("ListPayments", { accountId: ids.account }) },
  "billing.v1.BillingService/CreateInvoice": {
    leaves: "invoice.created",
    by: async () => {
      await charge(ids.account);
      return rpc("CreateInvoice", { accountId: ids.account, requestId: randomUUID() });
    },
  },
  "billing.v1.BillingService/IssueInvoice": {
    leaves: "invoice.issued",
    by: mutation("IssueInvoice", () => ({ invoiceId: ids.invoice })),
  },
  "billing.v1.BillingService/VoidInvoice": {
    leaves: "invoice.voided",
    by: async () => {
      await charge(ids.account);
      const { invoice } = await done(rpc("CreateInvoice", { accountId: ids.account, requestId: randomUUID() }));
      return rpc("VoidInvoice", { invoiceId: invoice.invoiceId, reason: "Mistake", requestId: randomUUID() });
    },
  },
  "billing.v1.BillingService/DiscountInvoice": {
    leaves: "invoice.discounted",
    by: async () => {
      const { charge: open } = await charge(ids.account);
      const { invoice } = await done(rpc("CreateInvoice", { accountId: ids.account, chargeIds: [open.chargeId], requestId: randomUUID() }));
      const reductions = [{ chargeId: open.chargeId, amount: { ...euros, minorUnits: "1" } }];
      return rpc("DiscountInvoice", { invoiceId: invoice.invoiceId, reductions, reason: "Late", requestId: randomUUID() });
    },
  },
  "billing.v1.BillingService/CreateCreditNote": {
    leaves: "invoice.credited",
    by: async () => rpc("CreateCreditNote", { invoiceId: await issuedInvoice(), reason: "Mistake", requestId: randomUUID() }),
  },
  "billing.v1.BillingService/GetCreditNote": {
    leaves: "credit_note.read",
    by: async () => rpc("GetCreditNote", { creditNoteId: await newCreditNote() }),
  },
  "billing.v1.BillingService/ListCreditNotes": {
    leaves: "credit_notes.listed",
    by: () => rpc("ListCreditNotes", { accountId: ids.account }),
  },
  "billing.v1.BillingService/WriteOff": {
    leaves: "charge.written_off",
    by: async () => rpc("WriteOff", { invoiceId: await issuedInvoice(), reason: "Insolvent", requestId: randomUUID() }),
  },
  "billing.v1.BillingService/GetInvoice": { leaves: "invoice.read", by: () => rpc("GetInvoice", { invoiceId: ids.invoice }) },
  "billing.v1.BillingService/ListInvoices": { leaves: "invoices.listed", by: () => rpc("ListInvoices", { accountId: ids.account }) },
  "billing.v1.BillingService/ListTransactions": {
    leaves: "transactions.listed",
    by: () => rpc("ListTransactions", { accountId: ids.account }),
  },
  "billing.v1.BillingService/GetStatement": {
    leaves: "statement.read",
    by: () => rpc("GetStatement", { accountId: ids.account, fromDate: "2026-01-01", toDate: "2026-12-31" }),
  },
  "billing.v1.BillingService/StreamStatement": {
    leaves: "statement.read",
    by: () => stream("StreamStatement", { accountId: ids.account, fromDate: "2026-01-01", toDate: "2026-12-31" }),
  },
  "billing.showInvoice": { leaves: "invoice.read", by: () => get(`/billing/invoices/${ids.invoice}?format=pdf`) },
  "billing.showCreditNote": {
    leaves: "credit_note.read",
    by: async () => get(`/billing/credit-notes/${await newCreditNote()}`),
  },
  "billing.showStatement": {
    leaves: "statement.read",
    by: () => get(`/billing/statements/${ids.account}?from=2026-01-01&to=2026-12-31&format=json`),
  },
  "billing.showPayerStatement": {
    leaves: "payer_statement.read",
    by: async () => get(`/billing/payers/${await newPayer()}/statement?from=2026-01-01&to=2026-12-31&currency=EUR`),
  },
  "billing.exportJournal": { leaves: "journal.exported", by: () => get("/billing/journal?from=2026-01-01&to=2026-12-31") },
  "billing.exportTaxSummary": {
    leaves: "tax_summary.exported",
    by: () => get("/billing/tax-summary?from=2026-01-01&to=2026-12-31&format=ndjson"),
  },
  "billing.readGeneralLedger": { none: "sums over all accounts" },
  "billing.readBillingTotals": { none: "sums for a service, and nothing about a person" },
};

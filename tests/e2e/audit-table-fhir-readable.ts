/** Which audit entry each operation of FHIR leaves on resources that are only read: a part of audit-table-fhir.ts. */
import type { operations } from "@pm/kit/auth/access";
import type { AuditRow } from "./audit-table-billing.ts";
import { person } from "./client.ts";
import { auditor, charge, done, get, ids, post } from "./scene.ts";

const names = "shows names of users and teams to those who work with them";

const describesServer = "describes the server and nobody";

/** A search with its parameters in the body. */
const form = (type: string, parameters: string) => ({
  ...post(`/fhir/R4/${type}/_search`, parameters),
  headers: { "content-type": "application/x-www-form-urlencoded" },
});

export const auditTableOfReadable = {
  "fhir.readAccount": { leaves: "account.read", in: "billing", by: () => get(`/fhir/R4/Account/${ids.account}`) },
  "fhir.searchAccount": { leaves: "account.read", in: "billing", by: () => get(`/fhir/R4/Account?patient=${ids.patient}`) },
  "fhir.readChargeItem": {
    leaves: "charge.read",
    in: "billing",
    by: async () => get(`/fhir/R4/ChargeItem/${(await charge(ids.account)).charge.chargeId}`),
  },
  "fhir.searchChargeItem": { leaves: "charges.listed", in: "billing", by: () => get(`/fhir/R4/ChargeItem?patient=${ids.patient}`) },
  "fhir.readInvoice": { leaves: "invoice.read", in: "billing", by: () => get(`/fhir/R4/Invoice/${ids.invoice}`) },
  "fhir.searchInvoice": { leaves: "invoices.listed", in: "billing", by: () => get(`/fhir/R4/Invoice?patient=${ids.patient}`) },
  "fhir.readPaymentReconciliation": {
    leaves: "payment.read",
    in: "billing",
    by: () => get(`/fhir/R4/PaymentReconciliation/${ids.payment}`),
  },
  "fhir.searchPaymentReconciliation": {
    leaves: "payments.listed",
    in: "billing",
    by: () => get(`/fhir/R4/PaymentReconciliation?patient=${ids.patient}`),
  },
  "fhir.readRelatedPerson": {
    leaves: "patient.read",
    in: "patient",
    by: async () => {
      const { id } = await done(post("/patients", { ...person(), contacts: [{ name: "Ralph King" }] }));
      const { entry } = await done(get(`/fhir/R4/RelatedPerson?patient=${id}`));
      return get(`/fhir/R4/RelatedPerson/${entry[0].resource.id}`);
    },
  },
  "fhir.searchRelatedPerson": { leaves: "patient.read", in: "patient", by: () => get(`/fhir/R4/RelatedPerson?patient=${ids.patient}`) },
  "fhir.readAuditEvent": {
    leaves: "audit.read",
    in: "billing",
    by: async () => {
      const { entry } = await done({ ...get("/fhir/R4/AuditEvent?site=billing&_count=1"), token: auditor.token });
      return { ...get(`/fhir/R4/AuditEvent/${entry[0].resource.id}`), token: auditor.token };
    },
  },
  "fhir.searchAuditEvent": {
    leaves: "audit.read",
    in: "auth",
    by: () => ({ ...get(`/fhir/R4/AuditEvent?patient=${ids.patient}`), token: auditor.token }),
  },
  "fhir.readProvenance": { leaves: "patient.history_read", in: "patient", by: () => get(`/fhir/R4/Provenance/${ids.patient}-1`) },
  "fhir.searchProvenance": {
    leaves: "patient.history_read",
    in: "patient",
    by: () => get(`/fhir/R4/Provenance?target=Patient/${ids.patient}`),
  },
  "fhir.readPractitioner": { none: names },
  "fhir.searchPractitioner": { none: names },
  "fhir.readGroup": { none: names },
  "fhir.searchGroup": { none: names },
  "fhir.searchAccountByForm": { leaves: "account.read", in: "billing", by: () => form("Account", `patient=${ids.patient}`) },
  "fhir.searchChargeItemByForm": { leaves: "charges.listed", in: "billing", by: () => form("ChargeItem", `patient=${ids.patient}`) },
  "fhir.searchInvoiceByForm": { leaves: "invoices.listed", in: "billing", by: () => form("Invoice", `patient=${ids.patient}`) },
  "fhir.searchPaymentReconciliationByForm": {
    leaves: "payments.listed",
    in: "billing",
    by: () => form("PaymentReconciliation", `patient=${ids.patient}`),
  },
  "fhir.searchRelatedPersonByForm": { leaves: "patient.read", in: "patient", by: () => form("RelatedPerson", `patient=${ids.patient}`) },
  "fhir.searchProvenanceByForm": { leaves: "patient.history_read", in: "patient", by: () => form("Provenance", `patient=${ids.patient}`) },
  "fhir.searchAuditEventByForm": {
    leaves: "audit.read",
    in: "patient",
    by: () => ({ ...form("AuditEvent", `patient=${ids.patient}`), token: auditor.token }),
  },
  "fhir.readOperationDefinition": { none: describesServer },
  "fhir.searchOperationDefinition": { none: describesServer },
  "fhir.searchOperationDefinitionByForm": { none: describesServer },
  "fhir.searchPractitionerByForm": { none: names },
  "fhir.searchGroupByForm": { none: names },
} satisfies Partial<Record<keyof typeof operations, AuditRow>>;

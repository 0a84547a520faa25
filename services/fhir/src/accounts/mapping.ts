/** The mapping of a billing account, ours → FHIR. docs/fhir.md has it as a table. */
import { type BillingAccount, BillingAccountStatus } from "@pm/proto/billing/v1/billing";
import type * as fhir from "fhir/r4.js";
import { amountExtension, referTo, toInstant, toPayer } from "../billing/elements.ts";

export const statusSystem = "http://hl7.org/fhir/account-status";
export const statuses = {
  active: [BillingAccountStatus.ACTIVE],
  "on-hold": [BillingAccountStatus.SUSPENDED],
  inactive: [BillingAccountStatus.CLOSED],
} as const;

function toStatus(status: BillingAccountStatus): fhir.Account["status"] {
  if (status === BillingAccountStatus.ACTIVE) return "active";
  if (status === BillingAccountStatus.SUSPENDED) return "on-hold";
  return status === BillingAccountStatus.CLOSED ? "inactive" : "unknown";
}

export function toAccount(account: BillingAccount): fhir.Account {
  const { accountId, patientId, name, payerId, mergedIntoAccountId, etag, balance, outstanding, credit } = account;
  const lastUpdated = toInstant(account.updateTime);
  const start = toInstant(account.createTime);
  return {
    resourceType: "Account",
    id: accountId,
    meta: { versionId: etag.replace(/^v/, ""), ...(lastUpdated && { lastUpdated }) },
    extension: [
      amountExtension("account-balance", balance),
      amountExtension("account-outstanding", outstanding),
      amountExtension("account-credit", credit),
    ],
    status: toStatus(account.status),
    type: { coding: [{ system: "http://terminology.hl7.org/CodeSystem/v3-ActCode", code: "PBILLACCT" }] },
    ...(name && { name }),
    subject: [referTo("Patient", patientId)],
    ...(start && { servicePeriod: { start } }),
    ...(payerId && { guarantor: [{ party: toPayer(payerId) }] }),
    ...(mergedIntoAccountId && { partOf: referTo("Account", mergedIntoAccountId) }),
  };
}

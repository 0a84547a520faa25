/** The mapping of a charge, ours → FHIR. docs/fhir.md has it as a table. */
import type { Charge } from "@pm/proto/billing/v1/billing";
import type * as fhir from "fhir/r4.js";
import { amountExtension, referTo, taxExtension, toConcept, toInstant, toMoney } from "../billing/elements.ts";

function toStatus({ voidTime, invoiceId }: Charge): fhir.ChargeItem["status"] {
  if (voidTime) return "aborted";
  return invoiceId === "" ? "billable" : "billed";
}

export function toChargeItem(charge: Charge): fhir.ChargeItem {
  const { chargeId, accountId, patientId, invoiceId, amount, outstanding, reduced, writtenOff, tax, description, serviceDate } = charge;
  const enteredDate = toInstant(charge.createTime);
  return {
    resourceType: "ChargeItem",
    id: chargeId,
    extension: [
      amountExtension("charge-outstanding", outstanding),
      amountExtension("charge-reduced", reduced),
      amountExtension("charge-written-off", writtenOff),
      ...(tax ? [taxExtension(tax)] : []),
    ],
    status: toStatus(charge),
    code: toConcept(description),
    subject: referTo("Patient", patientId),
    occurrenceDateTime: serviceDate,
    quantity: { value: 1 },
    priceOverride: toMoney(amount),
    ...(enteredDate && { enteredDate }),
    account: [referTo("Account", accountId)],
    ...(invoiceId && { supportingInformation: [referTo("Invoice", invoiceId)] }),
  };
}

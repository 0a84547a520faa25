/** The mapping of a payment, ours → FHIR. docs/fhir.md has it as a table. */
import { type Payment, PaymentMethod } from "@pm/proto/billing/v1/billing";
import type * as fhir from "fhir/r4.js";
import { amountExtension, extensionUrl, referTo, toInstant, toMoney } from "../billing/elements.ts";
import { ours } from "../protocol/resource.ts";

const methods: Record<PaymentMethod, string | undefined> = {
  [PaymentMethod.UNSPECIFIED]: undefined,
  [PaymentMethod.CASH]: "cash",
  [PaymentMethod.CARD]: "card",
  [PaymentMethod.TRANSFER]: "transfer",
  [PaymentMethod.INSURANCE]: "insurance",
};
const paysFor = { coding: [{ system: "http://terminology.hl7.org/CodeSystem/payment-type", code: "payment" }] };

/** A PaymentReconciliation is about no patient, so two extensions say whose payment it is. */
export function toPaymentReconciliation(payment: Payment): fhir.PaymentReconciliation {
  const { paymentId, accountId, patientId, paymentDate, amount, refunded, credit, reference, allocations } = payment;
  const method = methods[payment.method];
  return {
    resourceType: "PaymentReconciliation",
    id: paymentId,
    extension: [
      { url: extensionUrl("payment-patient"), valueReference: referTo("Patient", patientId) },
      { url: extensionUrl("payment-account"), valueReference: referTo("Account", accountId) },
      ...(method ? [{ url: extensionUrl("payment-method"), valueCode: method }] : []),
      amountExtension("payment-refunded", refunded),
      amountExtension("payment-credit", credit),
    ],
    status: "active",
    created: toInstant(payment.createTime) ?? paymentDate,
    paymentDate,
    paymentAmount: toMoney(amount),
    ...(reference && { paymentIdentifier: { system: `${ours}/payment-references`, value: reference } }),
    ...(allocations.length > 0 && {
      detail: allocations.map((each) => ({ type: paysFor, request: referTo("ChargeItem", each.chargeId), amount: toMoney(each.amount) })),
    }),
  };
}

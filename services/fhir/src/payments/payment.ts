/** Payments as PaymentReconciliations: reading one, and finding those of a patient or an account. */
import { create } from "@bufbuild/protobuf";
import { timestampFromDate } from "@bufbuild/protobuf/wkt";
import { AppError } from "@pm/kit/errors";
import { PaymentMethod, PaymentSchema } from "@pm/proto/billing/v1/billing";
import { answered, asCaller, type Billing } from "../billing/client.ts";
import { euros, timesOf } from "../billing/elements.ts";
import { codesOf, idsOf, referenceIn, requireOne, spanOf, uuidOf } from "../protocol/criteria.ts";
import { nothing, readable } from "../protocol/readable.ts";
import { toPaymentReconciliation } from "./mapping.ts";

const example = create(PaymentSchema, {
  ...{ paymentId: "0198c0de-9c11-7a2b-8c4d-5e6f7a8b9c0d", accountId: "5f0c5c1e-6a3c-4a53-9f6c-1f2b3c4d5e6f" },
  ...{ patientId: "0193b3f0-8c1a-7b6e-9d2f-3a4b5c6d7e8f", method: PaymentMethod.TRANSFER, reference: "RF18 5390 0754 7034" },
  ...{ amount: euros(5_000n), allocated: euros(5_000n), refunded: euros(0n), credit: euros(0n), paymentDate: "2026-01-28" },
  allocations: [{ chargeId: "0198c0de-7d5a-7c3b-8a51-5d0c2f9b6e10", amount: euros(5_000n) }],
  createTime: timestampFromDate(new Date("2026-01-28T09:30:00Z")),
});

export function createPayments({ billing, base }: { billing: Billing; base: string }) {
  return readable<"PaymentReconciliation">({
    type: "PaymentReconciliation",
    example: toPaymentReconciliation(example),
    documentation: "Payments with the charges that they settle. A search needs _id, patient or account.",
    definitions: {
      _id: { type: "token" },
      patient: { type: "reference", documentation: "A parameter of this server: whose payment it is." },
      account: { type: "reference", documentation: "A parameter of this server: to which account it was paid." },
      created: { type: "date", documentation: "When it was recorded." },
      status: { type: "token", documentation: "Every payment is active." },
    },
    includes: {},

    async read(call, id) {
      const { payment } = await answered(billing.getPayment({ paymentId: uuidOf(id) }, asCaller(call)));
      if (!payment) throw new AppError("not_found", "There is no such payment.");
      return toPaymentReconciliation(payment);
    },

    async search(call, search) {
      requireOne(search, "_id", "patient", "account");
      const [ids, status] = [idsOf(search), codesOf(search, "status", "http://hl7.org/fhir/fm-status", { active: ["active"] })];
      const patientId = referenceIn(search, base, "Patient", "patient");
      const accountId = referenceIn(search, base, "Account", "account");
      if (ids?.length === 0 || status?.length === 0 || patientId === "" || accountId === "") return nothing;
      const scope = { paymentIds: ids ?? [], patientId: patientId ?? "", accountId: accountId ?? "" };
      const request = { ...scope, ...timesOf(spanOf(search, "created")), includeAllocations: true };
      const page = { pageSize: search.count, pageToken: search.cursor ?? "" };
      const { payments, nextPageToken } = await answered(billing.listPayments({ ...request, ...page }, asCaller(call)));
      return { matches: payments.map(toPaymentReconciliation), next: nextPageToken || undefined };
    },
  });
}

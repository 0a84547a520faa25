/** Charges as ChargeItems: reading one, and finding those of a patient or an account. */
import { create } from "@bufbuild/protobuf";
import { timestampFromDate } from "@bufbuild/protobuf/wkt";
import { AppError } from "@pm/kit/errors";
import { ChargeSchema } from "@pm/proto/billing/v1/billing";
import { answered, asCaller, type Billing } from "../billing/client.ts";
import { euros, timesOf } from "../billing/elements.ts";
import { daysOf, idsOf, referenceIn, requireOne, spanOf, uuidOf } from "../protocol/criteria.ts";
import { nothing, readable } from "../protocol/readable.ts";
import { toChargeItem } from "./mapping.ts";

const example = create(ChargeSchema, {
  ...{ chargeId: "0198c0de-7d5a-7c3b-8a51-5d0c2f9b6e10", accountId: "5f0c5c1e-6a3c-4a53-9f6c-1f2b3c4d5e6f" },
  ...{ patientId: "0193b3f0-8c1a-7b6e-9d2f-3a4b5c6d7e8f", description: "Consultation", serviceDate: "2026-01-28" },
  ...{ amount: euros(12_500n), outstanding: euros(1_250n), reduced: euros(0n), writtenOff: euros(0n) },
  createTime: timestampFromDate(new Date("2026-01-28T09:30:00Z")),
});

export function createCharges({ billing, base }: { billing: Billing; base: string }) {
  return readable<"ChargeItem">({
    type: "ChargeItem",
    example: toChargeItem(example),
    documentation: "Charges. A search needs _id, patient, subject or account.",
    definitions: {
      _id: { type: "token" },
      patient: { type: "reference" },
      subject: { type: "reference", documentation: "The same as patient." },
      account: { type: "reference" },
      occurrence: { type: "date", documentation: "The day of the service." },
      "entered-date": { type: "date", documentation: "When it was charged." },
    },
    includes: {
      account: ({ account = [] }) => account.map(({ reference }) => reference),
      subject: ({ subject }) => [subject.reference],
      patient: ({ subject }) => [subject.reference],
    },

    async read(call, id) {
      const { charge } = await answered(billing.getCharge({ chargeId: uuidOf(id) }, asCaller(call)));
      if (!charge) throw new AppError("not_found", "There is no such charge.");
      return toChargeItem(charge);
    },

    async search(call, search) {
      requireOne(search, "_id", "patient", "subject", "account");
      const chargeIds = idsOf(search);
      const patientId = referenceIn(search, base, "Patient", "patient", "subject");
      const accountId = referenceIn(search, base, "Account", "account");
      if (chargeIds?.length === 0 || patientId === "" || accountId === "") return nothing;
      const scope = { chargeIds: chargeIds ?? [], patientId: patientId ?? "", accountId: accountId ?? "" };
      const when = { ...daysOf(search, "occurrence"), ...timesOf(spanOf(search, "entered-date")) };
      const request = { ...scope, ...when, pageSize: search.count, pageToken: search.cursor ?? "" };
      const { charges, nextPageToken } = await answered(billing.listCharges(request, asCaller(call)));
      return { matches: charges.map(toChargeItem), next: nextPageToken || undefined };
    },
  });
}

/** Accounts: reading one, and finding those of a patient or all. */
import { create } from "@bufbuild/protobuf";
import { timestampFromDate } from "@bufbuild/protobuf/wkt";
import { AppError } from "@pm/kit/errors";
import { type BillingAccount, BillingAccountSchema, BillingAccountStatus } from "@pm/proto/billing/v1/billing";
import type { Account } from "fhir/r4.js";
import { answered, asCaller, type Billing } from "../billing/client.ts";
import { euros } from "../billing/elements.ts";
import type { Call } from "../protocol/calls.ts";
import { codesOf, idsOf, referenceIn, uuidOf } from "../protocol/criteria.ts";
import { nothing, type Page, readable, unlessAbsent } from "../protocol/readable.ts";
import type { Search } from "../protocol/search-parameters.ts";
import { statuses, statusSystem, toAccount } from "./mapping.ts";

const example = create(BillingAccountSchema, {
  ...{ accountId: "5f0c5c1e-6a3c-4a53-9f6c-1f2b3c4d5e6f", patientId: "0193b3f0-8c1a-7b6e-9d2f-3a4b5c6d7e8f", name: "Ada Lovelace" },
  ...{ status: BillingAccountStatus.ACTIVE, etag: "v3", balance: euros(1_250n), outstanding: euros(1_250n), credit: euros(0n) },
  createTime: timestampFromDate(new Date("2026-01-28T09:30:00Z")),
  updateTime: timestampFromDate(new Date("2026-01-29T10:00:00Z")),
});

const subjectsOf = ({ subject = [] }: Account) => subject.map(({ reference }) => reference);

export function createAccounts({ billing, base }: { billing: Billing; base: string }) {
  async function withLinked(call: Call, key: { case: "accountId" | "patientId"; value: string }): Promise<BillingAccount[]> {
    const { account, linkedAccounts } = await answered(billing.getBillingAccount({ key }, asCaller(call)));
    return account ? [account, ...linkedAccounts] : [];
  }

  /** Without accounts of its own, a patient has none: no error, as a search has it. */
  const ofPatient = async (call: Call, patientId: string) =>
    (await withLinked(call, { case: "patientId", value: patientId }).catch(unlessAbsent)) ?? [];

  return readable<"Account">({
    type: "Account",
    example: toAccount(example),
    documentation: "Billing accounts, with those of records that were merged into the patient's.",
    definitions: {
      _id: { type: "token" },
      patient: { type: "reference", documentation: "The patient, or somebody whose record was merged into theirs." },
      subject: { type: "reference", documentation: "The same as patient." },
      status: { type: "token", documentation: "active, on-hold or inactive" },
    },
    includes: {
      subject: subjectsOf,
      patient: subjectsOf,
    },

    async read(call, id) {
      const [account] = await withLinked(call, { case: "accountId", value: uuidOf(id) });
      if (!account) throw new AppError("not_found", "There is no such account.");
      return toAccount(account);
    },

    async search(call: Call, search: Search): Promise<Page> {
      const [ids, wanted] = [idsOf(search), codesOf(search, "status", statusSystem, statuses)];
      const patientId = referenceIn(search, base, "Patient", "patient", "subject");
      if (ids?.length === 0 || wanted?.length === 0 || patientId === "") return nothing;
      if (patientId !== undefined) {
        const found = (await ofPatient(call, patientId)).filter(
          ({ accountId, status }) =>
            (ids?.includes(accountId) ?? true) && (wanted as BillingAccountStatus[] | undefined)?.includes(status) !== false,
        );
        return { matches: found.map(toAccount) };
      }
      const request = { accountIds: ids ?? [], statuses: wanted ?? [], pageSize: search.count, pageToken: search.cursor ?? "" };
      const { accounts, nextPageToken } = await answered(billing.listBillingAccounts(request, asCaller(call)));
      return { matches: accounts.map(toAccount), next: nextPageToken || undefined };
    },
  });
}

/** Billing accounts: a patient has one, and whoever asks for it again gets the same. */
import { createHash, randomUUIDv7 } from "node:crypto";
import { create, toBinary } from "@bufbuild/protobuf";
import { AppError, invalidFields } from "@pm/kit/errors";
import { CreateBillingAccountResponseSchema } from "@pm/proto/billing/v1/billing";
import { toOutboxEvent, topic } from "./messages.ts";
import { isCurrency } from "./money.ts";
import { type AccountKey, type AccountsTable, type Actor, type BillingDatabase, findAccount, openAccounts } from "./store.ts";

/** What is needed to open an account. An empty `requestId` or `currencyCode` was not given. */
export type AccountRequest = { patientId: string; name: string; email: string; requestId: string; currencyCode: string };

/** Where a change comes from: who, and in which trace. */
export type Context = { actor: Actor; traceparent: string };

export type Accounts = {
  /** The account of each patient, in the order of the requests, opened where there was none. All in one transaction. */
  open(requests: AccountRequest[], context: Context): Promise<AccountKey[]>;
  /** @throws AppError not_found */
  get(key: { accountId: string } | { patientId: string }): Promise<AccountsTable>;
};

export function createAccounts(options: {
  db: BillingDatabase;
  defaultCurrency: string;
  now: () => Date;
  /** Called after events were committed. */
  committed: () => void;
}): Accounts {
  const { db, defaultCurrency, now, committed } = options;
  return {
    async open(requests, context) {
      const at = now();
      const wrong = requests.flatMap(({ currencyCode }, index) => {
        const path = requests.length > 1 ? `requests[${index}].currency_code` : "currency_code";
        return currencyCode === "" || isCurrency(currencyCode) ? [] : [{ path, message: "must be a currency of ISO 4217, such as EUR" }];
      });
      if (wrong.length > 0) throw invalidFields(wrong);
      const wanted = requests.map((request) => {
        const id = randomUUIDv7();
        const currency = request.currencyCode || defaultCurrency;
        const patientId = request.patientId.toLowerCase();
        const answer = create(CreateBillingAccountResponseSchema, { accountId: id, status: "ACTIVE" });
        return {
          id,
          patientId,
          name: request.name,
          email: request.email,
          currency,
          event: toOutboxEvent(
            { id, patientId },
            { case: "accountOpened", value: { currencyCode: currency } },
            { now: at, traceparent: context.traceparent },
          ),
          request: request.requestId
            ? {
                id: request.requestId,
                // The account belongs to the patient, so the patient is what the id stands for; names and addresses may change.
                hash: createHash("sha256").update(patientId).digest(),
                response: toBinary(CreateBillingAccountResponseSchema, answer),
              }
            : undefined,
        };
      });
      const { accounts, opened } = await openAccounts(db, wanted, { now: at, topic, ...context });
      if (opened > 0) committed();
      const byPatient = new Map(accounts.map((account) => [account.patient_id, account]));
      return wanted.map(({ patientId }) => {
        const account = byPatient.get(patientId);
        if (!account) throw new Error("a patient's account is missing after it was opened");
        return account;
      });
    },

    async get(key) {
      const account = await findAccount(db, key);
      if (!account) throw new AppError("not_found", "There is no such billing account.", { reason: "ACCOUNT_NOT_FOUND" });
      return account;
    },
  };
}

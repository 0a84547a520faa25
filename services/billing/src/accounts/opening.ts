/** Opening accounts. A patient has one account; a request for a second one gets the first one. */
import { createHash, randomUUIDv7 } from "node:crypto";
import { create, toBinary } from "@bufbuild/protobuf";
import { createBatcher } from "@pm/kit/batcher";
import { AppError, invalidFields } from "@pm/kit/errors";
import { isCurrency } from "@pm/kit/money";
import type { RequestContext } from "@pm/kit/request-context";
import { CreateBillingAccountResponseSchema } from "@pm/proto/billing/v1/billing";
import { toOutboxEvent, topic } from "../events.ts";
import { isRequestIdTaken, once, requestIdReused } from "../idempotency/idempotency.ts";
import type { BillingDatabase } from "../tables.ts";
import { type AccountKey, type NewAccount, openAccounts } from "./store.ts";

/** What is needed to open an account. `requestId` and `currencyCode` may be empty. */
type AccountRequest = {
  patientId: string;
  name: string;
  email: string;
  requestId: string;
  currencyCode: string;
  /** The id that the account had before it was lost. */
  accountId?: string | undefined;
};

export type OpeningOptions = {
  db: BillingDatabase;
  defaultCurrency: string;
  now: () => Date;
  /** Called after events were committed, with the accounts that have changed for those who watch them. */
  committed: (accountIds: string[]) => void;
};

export type Opening = {
  /** The account of a patient. It is opened if there is none. */
  open(request: AccountRequest, context: RequestContext): Promise<AccountKey>;
  /**
   * The account of each patient, in the order of the requests. Those that do not exist are opened in one transaction.
   */
  openAll(requests: AccountRequest[], context: RequestContext): Promise<AccountKey[]>;
};

const maxBatch = 100;

export function createOpening(options: OpeningOptions): Opening {
  // Requests that arrive together share one statement.
  const batcher = createBatcher<{ request: AccountRequest; context: RequestContext }, AccountKey | AppError>({
    name: "account_opening",
    maxSize: maxBatch,
    maxInFlight: 2,
    run: (items) =>
      openTogetherOrAlone(
        options,
        items.map(({ request, context }) => toNewAccount(options, request, context)),
      ),
  });
  return {
    async open(request, context) {
      requireCurrencies([request], () => "currency_code");
      const answer = await batcher.add({ request, context });
      if (answer instanceof AppError) throw answer;
      return answer;
    },

    async openAll(requests, context) {
      requireCurrencies(requests, (index) => `requests[${index}].currency_code`);
      return openWanted(
        options,
        requests.map((request) => toNewAccount(options, request, context)),
      );
    },
  };
}

/** @throws AppError invalid_argument if a code is no currency of ISO 4217 today. Withdrawn ones stay readable. */
export function requireCurrency(code: string, path: string): void {
  requireCurrencies([{ currencyCode: code }], () => path);
}

function requireCurrencies(requests: Pick<AccountRequest, "currencyCode">[], pathOf: (index: number) => string): void {
  const wrong = requests.flatMap(({ currencyCode }, index) =>
    currencyCode === "" || isCurrency(currencyCode)
      ? []
      : [{ path: pathOf(index), message: "must be a currency of ISO 4217 that is in use, such as EUR" }],
  );
  if (wrong.length > 0) throw invalidFields(wrong);
}

function toNewAccount({ defaultCurrency, now }: OpeningOptions, request: AccountRequest, context: RequestContext): NewAccount {
  const { email, accountId: id = randomUUIDv7() } = request;
  const currency = request.currencyCode || defaultCurrency;
  const patientId = request.patientId.toLowerCase();
  const opened = { case: "accountOpened", value: { currencyCode: currency } } as const;
  const event = toOutboxEvent({ id, patient_id: patientId }, opened, { at: now(), traceparent: context.traceparent });
  const answer = create(CreateBillingAccountResponseSchema, { accountId: id, status: "ACTIVE" });
  return {
    ...{ id, patientId, name: request.name.normalize(), email, currency, event, context },
    request: request.requestId
      ? {
          id: request.requestId.toLowerCase(),
          // The request id belongs to the patient alone: a repetition may have another name or address.
          hash: createHash("sha256").update(patientId).digest(),
          response: toBinary(CreateBillingAccountResponseSchema, answer),
        }
      : undefined,
  };
}

/** Opens all in one statement. If that fails, any may be the cause, so each is opened alone and gets its own answer. */
async function openTogetherOrAlone(options: OpeningOptions, wanted: NewAccount[]): Promise<(AccountKey | AppError)[]> {
  const together = await openWanted(options, wanted).catch(() => undefined);
  if (together) return together;
  return Promise.all(
    wanted.map((one) =>
      openWanted(options, [one]).then(
        ([answer]) => answer as AccountKey,
        (error: unknown) => {
          if (error instanceof AppError) return error;
          throw error;
        },
      ),
    ),
  );
}

async function openWanted(options: OpeningOptions, wanted: NewAccount[]): Promise<AccountKey[]> {
  const { db, now, committed } = options;
  const { accounts, isNew } = await openAccounts(db, wanted, { now: now(), topic }).catch((error: unknown) => {
    throw isRequestIdTaken(error) ? requestIdReused(error) : error;
  });
  if (isNew.size > 0) committed([]);
  const byPatient = new Map(accounts.map((account) => [account.patient_id, account]));
  const answers = wanted.map(({ patientId }) => {
    const account = byPatient.get(patientId);
    if (!account) throw new Error("a patient's account is missing after it was opened");
    return account;
  });
  for (const [index, { patientId, request, context }] of wanted.entries())
    if (request && !isNew.has(patientId)) await storeRequest(options, request, answers[index] as AccountKey, context);
  return answers;
}

/**
 * Stores the request for an account that existed before. From then on its id belongs to the patient, as the id of a
 * request that has opened an account does.
 * @throws AppError already_exists if the id was used for another request
 */
async function storeRequest(
  { db, now }: OpeningOptions,
  { id, hash }: NonNullable<NewAccount["request"]>,
  account: AccountKey,
  context: RequestContext,
): Promise<void> {
  const key = { id, hash: Buffer.from(hash), method: "CreateBillingAccount" };
  const store = () =>
    once(db, { key, output: CreateBillingAccountResponseSchema, now: now(), subject: () => account.id, context }, async () =>
      create(CreateBillingAccountResponseSchema, { accountId: account.id, status: account.status }),
    );
  await store().catch((error: unknown) => {
    if (!isRequestIdTaken(error)) throw error;
    return store();
  });
}

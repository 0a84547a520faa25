/** Billing accounts: a patient has one, and whoever asks for it again gets the same. */
import { createHash, randomUUIDv7 } from "node:crypto";
import { create, toBinary } from "@bufbuild/protobuf";
import { createBatcher } from "@pm/kit/batcher";
import type { Cursors } from "@pm/kit/cursor";
import { AppError, invalidFields } from "@pm/kit/errors";
import { violatedConstraint } from "@pm/kit/postgres/database";
import {
  type BillingAccount,
  CreateBillingAccountResponseSchema,
  type ListBillingAccountsRequest,
  type ListBillingAccountsResponse,
  ListBillingAccountsResponseSchema,
  type UpdateBillingAccountRequest,
  type UpdateBillingAccountResponse,
  UpdateBillingAccountResponseSchema,
} from "@pm/proto/billing/v1/billing";
import { later } from "../dates.ts";
import { once, type RequestKey, requireEtag } from "../idempotency.ts";
import { accountEtag, fromStatus, toAccount, toOutboxEvent, topic } from "../ledger/messages.ts";
import { isCurrency } from "../money.ts";
import {
  type AccountId,
  type AccountKey,
  type AccountsTable,
  announce,
  type BillingDatabase,
  type Context,
  findAccount,
  listAccounts,
  lockAccounts,
  openAccounts,
  transaction,
  updateAccount,
} from "./store.ts";

/** What is needed to open an account. An empty `requestId` or `currencyCode` was not given. */
export type AccountRequest = {
  patientId: string;
  name: string;
  email: string;
  requestId: string;
  currencyCode: string;
  /** Where the account had an id before it was lost. */
  accountId?: string | undefined;
};

export type Accounts = {
  /** The account of a patient, opened where there was none. */
  open(request: AccountRequest, context: Context): Promise<AccountKey>;
  /** The account of each patient, in the order of the requests, opened where there was none. All in one transaction. */
  openAll(requests: AccountRequest[], context: Context): Promise<AccountKey[]>;
  /** @throws AppError not_found */
  get(key: AccountId): Promise<AccountsTable>;
  list(request: ListBillingAccountsRequest): Promise<ListBillingAccountsResponse>;
  update(request: UpdateBillingAccountRequest, key: RequestKey, context: Context): Promise<UpdateBillingAccountResponse>;
};

export const defaultPageSize = 50;
const maxBatch = 100;

export function createAccounts(options: {
  db: BillingDatabase;
  cursors: Cursors;
  defaultCurrency: string;
  now: () => Date;
  /** Called after events were committed, with the accounts that changed. */
  committed: (accountIds: string[]) => void;
}): Accounts {
  const { db, cursors, defaultCurrency, now, committed } = options;
  // Requests that arrive together share a statement where they share everything that it is written with.
  const batcher = createBatcher<{ request: AccountRequest; context: Context }, AccountKey | AppError>({
    maxSize: maxBatch,
    maxInFlight: 2,
    async run(items) {
      const opened = items.map(({ request, context }) => ({ ...prepare(request, context), context }));
      const answers = await openWanted(opened).catch(() => undefined);
      if (answers) return answers;
      // One of them may be what failed: each gets an answer of its own.
      return Promise.all(
        opened.map((one) =>
          openWanted([one]).then(
            ([answer]) => answer as AccountKey,
            (error: unknown) => {
              if (error instanceof AppError) return error;
              throw error;
            },
          ),
        ),
      );
    },
  });

  function prepare(request: AccountRequest, context: Context) {
    const id = request.accountId ?? randomUUIDv7();
    const currency = request.currencyCode || defaultCurrency;
    const patientId = request.patientId.toLowerCase();
    const { traceparent } = context;
    const answer = create(CreateBillingAccountResponseSchema, { accountId: id, status: "ACTIVE" });
    const event = toOutboxEvent(
      { id, patientId },
      { case: "accountOpened", value: { currencyCode: currency } },
      { now: now(), traceparent },
    );
    return {
      ...{ id, patientId, name: request.name, email: request.email, currency, event },
      request: request.requestId
        ? {
            id: request.requestId.toLowerCase(),
            // The account belongs to the patient, so the patient is what the id stands for; name and address may change.
            hash: createHash("sha256").update(patientId).digest(),
            response: toBinary(CreateBillingAccountResponseSchema, answer),
          }
        : undefined,
    };
  }

  async function openWanted(wanted: (ReturnType<typeof prepare> & { context: Context })[]): Promise<AccountKey[]> {
    const { accounts, isNew } = await openAccounts(db, wanted, { now: now(), topic });
    if (isNew.size > 0) committed([]);
    const byPatient = new Map(accounts.map((account) => [account.patient_id, account]));
    const answers = wanted.map(({ patientId }) => {
      const account = byPatient.get(patientId);
      if (!account) throw new Error("a patient's account is missing after it was opened");
      return account;
    });
    for (const [index, { patientId, request }] of wanted.entries())
      if (request && !isNew.has(patientId)) await remember(request, answers[index] as AccountKey);
    return answers;
  }

  /**
   * A request for an account that was there already stands for its patient from now on, as one that opened an account does.
   * @throws AppError already_exists where its id was used for something else.
   */
  async function remember({ id, hash }: { id: string; hash: Buffer }, account: AccountKey): Promise<void> {
    const key = { id, hash, method: "CreateBillingAccount" };
    const standing = () =>
      once(db, key, CreateBillingAccountResponseSchema, now(), async () =>
        create(CreateBillingAccountResponseSchema, { accountId: account.id, status: account.status }),
      );
    await standing().catch((error: unknown) => {
      // Somebody used the id in the meantime: asked again, it is known.
      if (violatedConstraint(error) !== "requests_once") throw error;
      return standing();
    });
  }

  return {
    async open(request, context) {
      requireCurrencies([request], () => "currency_code");
      const answer = await batcher.add({ request, context });
      if (answer instanceof AppError) throw answer;
      return answer;
    },

    async openAll(requests, context) {
      requireCurrencies(requests, (index) => `requests[${index}].currency_code`);
      return openWanted(requests.map((request) => ({ ...prepare(request, context), context })));
    },

    async get(key) {
      const account = await findAccount(db, key);
      if (!account) throw accountNotFound();
      return account;
    },

    async list({ pageSize, pageToken, status }) {
      const filter = { status: fromStatus(status) };
      const query = ["accounts", filter.status ?? ""];
      const limit = pageSize || defaultPageSize;
      const before = pageToken ? String(cursors.open(query, pageToken, "page_token")[0]) : undefined;
      const rows = await listAccounts(db, filter, { before, limit: limit + 1 });
      const last = rows.length > limit ? rows[limit - 1] : undefined;
      return create(ListBillingAccountsResponseSchema, {
        accounts: rows.slice(0, limit).map(toAccount),
        nextPageToken: last ? cursors.seal(query, [last.id]) : "",
      });
    },

    async update({ account: wanted, updateMask }, key, context) {
      if (!wanted) throw invalidFields([{ path: "account", message: "is required" }]);
      const result = await transaction(db, async (tx) => {
        const [current] = await lockAccounts(tx, [wanted.accountId]);
        if (!current) throw accountNotFound();
        const at = later(now(), current.updated_at);
        return once(tx, key, UpdateBillingAccountResponseSchema, at, async () => {
          requireEtag(wanted.etag, accountEtag(current), "account");
          const values = newValues(current, wanted, updateMask?.paths);
          const changed = (["status", "name", "email"] as const).filter((field) => values[field] !== current[field]);
          if (changed.length === 0) return create(UpdateBillingAccountResponseSchema, { account: toAccount(current) });
          if (values.status === "CLOSED" && (current.receivable > 0n || current.credit > 0n))
            throw new AppError("failed_precondition", "An account with a balance cannot be closed. Collect or refund it first.", {
              reason: "ACCOUNT_NOT_SETTLED",
            });
          // Names and addresses stay out of the audit trail; that they changed does not.
          const details = { changed, ...(changed.includes("status") && { from: current.status, to: values.status }) };
          const row = await updateAccount(tx, current.id, values, { now: at, actor: context.actor, details });
          if (changed.includes("status")) {
            const happening = { case: "accountStatusChanged", value: { status: values.status } } as const;
            const account = { id: current.id, patientId: current.patient_id };
            await announce(tx, toOutboxEvent(account, happening, { now: at, traceparent: context.traceparent }));
          }
          return create(UpdateBillingAccountResponseSchema, { account: toAccount(row) });
        });
      });
      committed([wanted.accountId]);
      return result;
    },
  };
}

export function accountNotFound(): AppError {
  return new AppError("not_found", "There is no such billing account.", { reason: "ACCOUNT_NOT_FOUND" });
}

function requireCurrencies(requests: AccountRequest[], pathOf: (index: number) => string): void {
  const wrong = requests.flatMap(({ currencyCode }, index) =>
    currencyCode === "" || isCurrency(currencyCode)
      ? []
      : [{ path: pathOf(index), message: "must be a currency of ISO 4217, such as EUR" }],
  );
  if (wrong.length > 0) throw invalidFields(wrong);
}

/** What the account is to have: of the fields in the mask what was sent, or of all fields what has a value. */
function newValues(current: AccountsTable, wanted: BillingAccount, paths: string[] | undefined) {
  const isSent = { status: wanted.status !== 0, name: wanted.name !== "", email: wanted.email !== "" };
  const takes = (field: keyof typeof isSent) => (paths && paths.length > 0 ? paths.includes(field) : isSent[field]);
  const missing = (["status", "name", "email"] as const).filter((field) => takes(field) && !isSent[field]);
  if (missing.length > 0) throw invalidFields(missing.map((field) => ({ path: `account.${field}`, message: "must have a value" })));
  return {
    status: takes("status") ? (fromStatus(wanted.status) ?? current.status) : current.status,
    name: takes("name") ? wanted.name : current.name,
    email: takes("email") ? wanted.email : current.email,
  };
}

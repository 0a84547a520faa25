/** Billing accounts: one per patient. */
import { create } from "@bufbuild/protobuf";
import { insertAuditEntries } from "@pm/kit/audit/audit";
import type { Cursors } from "@pm/kit/cursor";
import { AppError, invalidFields } from "@pm/kit/errors";
import { insertOutboxEvents } from "@pm/kit/kafka/outbox";
import { inTransaction, type Queries } from "@pm/kit/postgres/transaction";
import type { RequestContext } from "@pm/kit/request-context";
import {
  type BillingAccount,
  BillingAccountSchema,
  type ListBillingAccountsRequest,
  type ListBillingAccountsResponse,
  ListBillingAccountsResponseSchema,
  type UpdateBillingAccountRequest,
  type UpdateBillingAccountResponse,
  UpdateBillingAccountResponseSchema,
} from "@pm/proto/billing/v1/billing";
import { later } from "../dates.ts";
import { type DomainEvent, toOutboxEvent } from "../events.ts";
import { once, type RequestKey, requireEtag, retries } from "../idempotency/idempotency.ts";
import { readPage } from "../paging.ts";
import { findPayer } from "../payers/store.ts";
import type { Row } from "../tables.ts";
import { accountEtag, fromStatus, toAccount } from "./messages.ts";
import { createOpening, type Opening, type OpeningOptions, requireCurrency } from "./opening.ts";
import { type AccountId, findAccount, listAccounts, lockAccounts, updateAccount } from "./store.ts";

export type Accounts = Opening & {
  /** The patient of a merged record has the account of the survivor. @throws AppError not_found */
  get(key: AccountId): Promise<Row<"accounts">>;
  list(request: ListBillingAccountsRequest): Promise<ListBillingAccountsResponse>;
  update(request: UpdateBillingAccountRequest, key: RequestKey, context: RequestContext): Promise<UpdateBillingAccountResponse>;
};

export function createAccounts(options: OpeningOptions & { cursors: Cursors }): Accounts {
  const { db, cursors, now, committed } = options;
  return {
    ...createOpening(options),

    async get(key) {
      const account = await findAccount(db, key);
      if (!account) throw accountNotFound("accountId" in key ? key.accountId : key.patientId);
      const survivor = "patientId" in key && account.merged_into ? await findAccount(db, { accountId: account.merged_into }) : undefined;
      return survivor ?? account;
    },

    async list(request) {
      const { statuses, accountIds } = request;
      const status = fromStatus(request.status);
      const payerId = request.payerId.toLowerCase();
      const named = statuses.flatMap((each) => fromStatus(each) ?? []);
      const both = status && named.length > 0 ? named.filter((each) => each === status) : [...named, ...(status ? [status] : [])];
      const filter = {
        statuses: status || named.length > 0 ? both : undefined,
        payerId: payerId || undefined,
        ids: accountIds.length > 0 ? accountIds : undefined,
      };
      const more = named.length > 0 || accountIds.length > 0 ? [{ named, accountIds }] : [];
      const { items: accounts, nextPageToken } = await readPage(cursors, request, {
        // Without newer filters as it was before there were any, so that pages go on while a new release is rolled out.
        query: ["accounts", status ?? "", ...(payerId ? [payerId] : []), ...more],
        read: (page) => listAccounts(db, filter, page),
        positionOf: ({ id }) => id,
        schema: BillingAccountSchema,
        toItem: toAccount,
      });
      return create(ListBillingAccountsResponseSchema, { accounts, nextPageToken });
    },

    async update({ account: wanted, updateMask }, key, context) {
      if (!wanted) throw invalidFields([{ path: "account", message: "is required" }]);
      const answer = await inTransaction(
        db,
        async (tx) => {
          const [current] = await lockAccounts(tx, [wanted.accountId]);
          if (!current) throw accountNotFound();
          const at = later(now(), current.updated_at);
          return once(tx, { key, output: UpdateBillingAccountResponseSchema, now: at, subject: () => current.id, context }, async () => {
            requireEtag(wanted.etag, accountEtag(current), "account");
            const values = newValues(current, wanted, updateMask?.paths);
            await requirePayer(tx, current, values);
            const row = await changeAccount(tx, current, values, { at, context });
            return create(UpdateBillingAccountResponseSchema, { account: toAccount(row) });
          });
        },
        { ...retries, turn: wanted.accountId.toLowerCase() },
      );
      committed([wanted.accountId]);
      return answer;
    },
  };
}

/** @param subject what the caller asked for, if others may have it */
export function accountNotFound(subject?: string): AppError {
  const options = { reason: "ACCOUNT_NOT_FOUND", ...(subject !== undefined && { refused: { subject } }) };
  return new AppError("not_found", "There is no such billing account.", options);
}

const changeable = ["status", "name", "email", "currency", "payer_id"] as const;
type Values = Pick<Row<"accounts">, (typeof changeable)[number]>;

/** How the message names a field of the row. */
const pathOf = (field: keyof Values) => (field === "currency" ? "currency_code" : field);

/** The values that the account is to have. Without a mask, the values that were sent are the ones to change. */
function newValues(current: Row<"accounts">, wanted: BillingAccount, paths: string[] | undefined): Values {
  const { name, email, currencyCode } = wanted;
  const payerId = wanted.payerId.toLowerCase();
  const isSent = {
    ...{ status: wanted.status !== 0, name: name !== "", email: email !== "", currency: currencyCode !== "" },
    payer_id: payerId !== "",
  };
  const isNamed = (field: keyof Values) => (paths && paths.length > 0 ? paths.includes(pathOf(field)) : isSent[field]);
  const missing = changeable.filter((field) => isNamed(field) && !isSent[field] && field !== "payer_id" && field !== "email");
  if (missing.length > 0) throw invalidFields(missing.map((field) => ({ path: `account.${pathOf(field)}`, message: "must have a value" })));
  const values = {
    status: isNamed("status") ? (fromStatus(wanted.status) ?? current.status) : current.status,
    name: isNamed("name") ? name.normalize() : current.name,
    email: isNamed("email") ? email : current.email,
    currency: isNamed("currency") ? currencyCode : current.currency,
    payer_id: isNamed("payer_id") ? payerId || null : current.payer_id,
  };
  if (values.currency !== current.currency) requireCurrency(values.currency, "account.currency_code");
  return values;
}

/** @throws AppError invalid_argument if the new payer does not exist */
async function requirePayer(tx: Queries, current: Row<"accounts">, { payer_id }: Values): Promise<void> {
  if (payer_id === null || payer_id === current.payer_id || (await findPayer(tx, payer_id))) return;
  throw invalidFields([{ path: "account.payer_id", message: "is the id of no payer" }]);
}

function requireChangeable(current: Row<"accounts">, { status, currency }: Values): void {
  if (status === "CLOSED" && (current.receivable > 0n || current.credit > 0n))
    throw new AppError("failed_precondition", "An account with a balance cannot be closed. Collect or refund it first.", {
      reason: "ACCOUNT_NOT_SETTLED",
    });
  if (currency !== current.currency && current.transaction_count > 0n)
    throw new AppError("failed_precondition", `An account with transactions keeps its currency, ${current.currency}.`, {
      reason: "ACCOUNT_HAS_TRANSACTIONS",
    });
}

/**
 * Writes the values, if any differs. Either way the answer shows the account, so there is an audit entry. A new status
 * and a new currency are events too.
 */
async function changeAccount(
  tx: Queries,
  current: Row<"accounts">,
  values: Values,
  { at, context }: { at: Date; context: RequestContext },
): Promise<Row<"accounts">> {
  const changed = changeable.filter((field) => values[field] !== current[field]);
  if (changed.length === 0) {
    await insertAuditEntries(tx, [{ ...context, action: "account.read", subject: current.id }]);
    return current;
  }
  requireChangeable(current, values);
  const { status, currency } = values;
  const events: DomainEvent[] = [];
  if (changed.includes("status")) events.push({ case: "accountStatusChanged", value: { status } });
  if (changed.includes("currency")) events.push({ case: "accountCurrencyChanged", value: { currencyCode: currency } });
  // The audit trail says that a name or an address has changed, but not the values.
  const details = { changed, ...(changed.includes("status") && { from: current.status, to: status }) };
  const row = await updateAccount(tx, current.id, values, { now: at, context, details });
  const { traceparent } = context;
  if (events.length > 0)
    await insertOutboxEvents(
      tx,
      events.map((event) => toOutboxEvent(current, event, { at, traceparent })),
    );
  return row;
}

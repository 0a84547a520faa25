/** What is owed on the accounts of a payer. Amounts of different currencies are never added up. */
import { create } from "@bufbuild/protobuf";
import type { Cursors } from "@pm/kit/cursor";
import { AppError } from "@pm/kit/errors";
import {
  BillingAccountSchema,
  type GetPayerBalanceRequest,
  type GetPayerBalanceResponse,
  GetPayerBalanceResponseSchema,
} from "@pm/proto/billing/v1/billing";
import { readPage } from "../paging.ts";
import type { Payers } from "../payers/payers.ts";
import type { BillingDatabase } from "../tables.ts";
import { toAccount, toMoney } from "./messages.ts";
import { listAccounts, totalsOfPayer } from "./store.ts";

/** The largest int64. */
const maxSum = 2n ** 63n - 1n;

export type PayerBalance = (request: GetPayerBalanceRequest) => Promise<GetPayerBalanceResponse>;

export function createPayerBalance({ db, cursors, payers }: { db: BillingDatabase; cursors: Cursors; payers: Payers }): PayerBalance {
  return async (request) => {
    const payer = await payers.get(request.payerId);
    const { payerId } = payer;
    const totals = await totalsOfPayer(db, payerId);
    if (totals.some(({ outstanding, credit, invoiced }) => [outstanding, credit, invoiced].some((sum) => sum > maxSum)))
      throw new AppError("failed_precondition", `A sum is above ${maxSum} minor units, the most that an answer holds. List the accounts.`, {
        reason: "BALANCE_LIMIT",
      });
    const { items: accounts, nextPageToken } = await readPage(cursors, request, {
      query: ["payer-balance", payerId],
      read: (page) => listAccounts(db, { payerId }, page),
      positionOf: ({ id }) => id,
      schema: BillingAccountSchema,
      toItem: toAccount,
    });
    return create(GetPayerBalanceResponseSchema, {
      payer,
      totals: totals.map(({ currency, outstanding, credit, invoiced, accounts: accountCount }) => ({
        outstanding: toMoney(outstanding, currency),
        credit: toMoney(credit, currency),
        invoiced: toMoney(invoiced, currency),
        accountCount,
      })),
      accounts,
      nextPageToken,
    });
  };
}

/** Accounts as the messages that callers get. */
import { create } from "@bufbuild/protobuf";
import { timestampFromDate } from "@bufbuild/protobuf/wkt";
import { type BillingAccount, BillingAccountSchema, BillingAccountStatus } from "@pm/proto/billing/v1/billing";
import { type Money, MoneySchema } from "@pm/proto/common/v1/money";
import type { AccountStatus, Row } from "../tables.ts";

const statuses: Record<AccountStatus, BillingAccountStatus> = {
  ACTIVE: BillingAccountStatus.ACTIVE,
  SUSPENDED: BillingAccountStatus.SUSPENDED,
  CLOSED: BillingAccountStatus.CLOSED,
};

/** The status as rows have it; undefined if the message has none. */
export function fromStatus(status: BillingAccountStatus): AccountStatus | undefined {
  return (Object.keys(statuses) as AccountStatus[]).find((name) => statuses[name] === status);
}

export function toMoney(minorUnits: bigint, currencyCode: string): Money {
  return create(MoneySchema, { minorUnits, currencyCode });
}

export function accountEtag(account: Pick<Row<"accounts">, "version">): string {
  return `v${account.version}`;
}

export function toAccount(account: Row<"accounts">): BillingAccount {
  const { currency } = account;
  return create(BillingAccountSchema, {
    accountId: account.id,
    patientId: account.patient_id,
    status: statuses[account.status],
    balance: toMoney(account.receivable - account.credit, currency),
    outstanding: toMoney(account.receivable, currency),
    credit: toMoney(account.credit, currency),
    transactionCount: account.transaction_count,
    name: account.name,
    email: account.email,
    currencyCode: currency,
    payerId: account.payer_id ?? "",
    mergedIntoAccountId: account.merged_into ?? "",
    etag: accountEtag(account),
    createTime: timestampFromDate(account.created_at),
    updateTime: timestampFromDate(account.updated_at),
  });
}

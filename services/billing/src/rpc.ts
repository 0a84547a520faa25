/** `billing.v1.BillingService`, filled in. */
import type { MessageInitShape } from "@bufbuild/protobuf";
import { timestampFromDate } from "@bufbuild/protobuf/wkt";
import type { ConnectRouter, HandlerContext } from "@connectrpc/connect";
import { callerKey, onBehalfOfKey, requestIdKey, traceparentKey } from "@pm/kit/rpc";
import { type BillingAccountSchema, BillingAccountStatus, BillingService } from "@pm/proto/billing/v1/billing";
import type { Accounts, Context } from "./accounts.ts";
import { toMoney } from "./money.ts";
import type { AccountKey, AccountsTable } from "./store.ts";

const statuses = {
  ACTIVE: BillingAccountStatus.ACTIVE,
  SUSPENDED: BillingAccountStatus.SUSPENDED,
  CLOSED: BillingAccountStatus.CLOSED,
} as const;

export function registerBilling(router: ConnectRouter, rules: { accounts: Accounts }): void {
  const { accounts } = rules;
  router.service(BillingService, {
    async createBillingAccount(request, context) {
      const [account] = await accounts.open([request], contextOf(context));
      return toCreated(account as AccountKey);
    },
    async batchCreateBillingAccounts({ requests }, context) {
      const opened = await accounts.open(requests, contextOf(context));
      return { accounts: opened.map(toCreated) };
    },
    async getBillingAccount({ key }) {
      const account = await accounts.get(key.case === "patientId" ? { patientId: key.value } : { accountId: key.value ?? "" });
      return { account: toAccount(account) };
    },
  });
}

/** Who is accountable: the person for whom a service calls, where there is one. */
function contextOf({ values }: HandlerContext): Context {
  const actor = values.get(onBehalfOfKey)?.id ?? values.get(callerKey)?.id ?? "anonymous";
  return { actor: { id: actor, requestId: values.get(requestIdKey) }, traceparent: values.get(traceparentKey) };
}

function toCreated({ id, status }: AccountKey): { accountId: string; status: string } {
  return { accountId: id, status };
}

function toAccount(account: AccountsTable): MessageInitShape<typeof BillingAccountSchema> {
  return {
    accountId: account.id,
    patientId: account.patient_id,
    status: statuses[account.status],
    balance: toMoney(0n, account.currency),
    createTime: timestampFromDate(account.created_at),
    updateTime: timestampFromDate(account.updated_at),
  };
}

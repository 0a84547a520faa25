/** The methods of `billing.v1.BillingService`. */
import type { ConnectRouter, HandlerContext } from "@connectrpc/connect";
import type { Scope } from "@pm/kit/auth/access";
import type { Caller, Verifier } from "@pm/kit/auth/verifier";
import { AppError, invalidFields } from "@pm/kit/errors";
import { callerKey, rpcContext } from "@pm/kit/rpc/guard";
import { BillingService } from "@pm/proto/billing/v1/billing";
import { type Accounts, accountNotFound } from "./accounts/accounts.ts";
import { toAccount } from "./accounts/messages.ts";
import type { AccountKey } from "./accounts/store.ts";
import { requestKey } from "./idempotency/idempotency.ts";
import type { Invoices } from "./invoices/invoices.ts";
import type { History } from "./ledger/history.ts";
import type { Ledger } from "./ledger/ledger.ts";
import type { Amount } from "./ledger/posting-request.ts";
import type { Watch } from "./ledger/watch.ts";
import type { Patients } from "./patient-client.ts";

/** Callers with `patient:read` but without `billing:read` may see the accounts of the patients that they may see. */
export const secondScopes = new Map<string, Scope>([["billing.v1.BillingService/GetBillingAccount", "patient:read"]]);

type Rules = {
  accounts: Accounts;
  ledger: Ledger;
  invoices: Invoices;
  history: History;
  watch: Watch;
  patients: Patients;
  verifier: Verifier;
};

export function registerBilling(router: ConnectRouter, rules: Rules): void {
  const { accounts, ledger, invoices, history, watch, patients, verifier } = rules;
  const { method } = BillingService;
  router.service(BillingService, {
    async createBillingAccount(request, context) {
      return toCreated(await accounts.open(request, rpcContext(context)));
    },
    async batchCreateBillingAccounts({ requests }, context) {
      return { accounts: (await accounts.openAll(requests, rpcContext(context))).map(toCreated) };
    },
    async getBillingAccount({ key }, context) {
      const caller = callerOf(context);
      const mayReadAll = caller.scopes.has("billing:read");
      const account = await accounts.get(key.case === "patientId" ? { patientId: key.value } : { accountId: key.value ?? "" });
      // The same answer as for an account that does not exist, so that callers learn nothing about patients of others.
      if (!mayReadAll && !(await patients.mayBeSeenBy(account.patient_id, caller.token))) throw accountNotFound();
      return { account: toAccount(account) };
    },
    listBillingAccounts: (request) => accounts.list(request),
    updateBillingAccount: (request, context) =>
      accounts.update(request, requestKey(method.updateBillingAccount, request), rpcContext(context)),
    watchAccount({ accountId, position }, { signal, requestHeader }) {
      const stillAllowed = () => verifier.verify(requestHeader.get("authorization"));
      return watch.account({ accountId, position, signal, stillAllowed });
    },

    createCharge: (request, context) =>
      ledger.charge({ ...request, amount: required(request.amount) }, requestKey(method.createCharge, request), rpcContext(context)),
    voidCharge: (request, context) => ledger.void(request, requestKey(method.voidCharge, request), rpcContext(context)),
    recordPayment: (request, context) =>
      ledger.pay({ ...request, amount: required(request.amount) }, requestKey(method.recordPayment, request), rpcContext(context)),
    refundPayment: (request, context) =>
      ledger.refund({ ...request, amount: request.amount }, requestKey(method.refundPayment, request), rpcContext(context)),
    listCharges: (request) => history.charges(request),
    listPayments: (request) => history.payments(request),

    createInvoice: (request, context) => invoices.create(request, requestKey(method.createInvoice, request), rpcContext(context)),
    issueInvoice: (request, context) => invoices.issue(request, requestKey(method.issueInvoice, request), rpcContext(context)),
    voidInvoice: (request, context) => invoices.void(request, requestKey(method.voidInvoice, request), rpcContext(context)),
    async getInvoice({ invoiceId }) {
      return { invoice: await invoices.get(invoiceId) };
    },
    listInvoices: (request) => invoices.list(request),

    listTransactions: (request) => history.transactions(request),
    getStatement: (request) => history.statement(request),
  });
}

function callerOf({ values }: HandlerContext): Caller {
  const caller = values.get(callerKey);
  if (!caller) throw new AppError("internal", "The caller is not known.");
  return caller;
}

function toCreated({ id, status }: AccountKey): { accountId: string; status: string } {
  return { accountId: id, status };
}

/** For the compiler: validation has refused requests without an amount. */
function required(amount: Amount | undefined): Amount {
  if (!amount) throw invalidFields([{ path: "amount", message: "is required" }]);
  return amount;
}

/** `billing.v1.BillingService`, filled in. */
import type { ConnectRouter, HandlerContext } from "@connectrpc/connect";
import type { Scope } from "@pm/kit/auth/access";
import type { Caller, Verifier } from "@pm/kit/auth/verifier";
import { AppError, invalidFields } from "@pm/kit/errors";
import { callerKey, rpcContext } from "@pm/kit/rpc/guard";
import { BillingService } from "@pm/proto/billing/v1/billing";
import { type Accounts, accountNotFound } from "./accounts/accounts.ts";
import type { AccountKey, Context } from "./accounts/store.ts";
import { requestKey } from "./idempotency.ts";
import type { Invoices } from "./invoices/invoices.ts";
import type { NewCharge } from "./ledger/batch.ts";
import type { History } from "./ledger/history.ts";
import type { Ledger } from "./ledger/ledger.ts";
import { toAccount } from "./ledger/messages.ts";
import type { Watch } from "./ledger/watch.ts";
import type { Patients } from "./patient-client.ts";

/** Who has `patient:read` and not `billing:read` may see the accounts of the patients that they may see. */
export const secondScopes = new Map<string, Scope>([["billing.v1.BillingService/GetBillingAccount", "patient:read"]]);

export type Rules = {
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
      return toCreated(await accounts.open(request, contextOf(context)));
    },
    async batchCreateBillingAccounts({ requests }, context) {
      return { accounts: (await accounts.openAll(requests, contextOf(context))).map(toCreated) };
    },
    async getBillingAccount({ key }, context) {
      const caller = callerOf(context);
      const mayReadAll = caller.scopes.has("billing:read");
      const account = await accounts.get(key.case === "patientId" ? { patientId: key.value } : { accountId: key.value ?? "" });
      // What may not be seen answers like what does not exist.
      if (!mayReadAll && !(await patients.mayBeSeenBy(account.patient_id, caller.token))) throw accountNotFound();
      return { account: toAccount(account) };
    },
    listBillingAccounts: (request) => accounts.list(request),
    updateBillingAccount: (request, context) =>
      accounts.update(request, requestKey(method.updateBillingAccount, request), contextOf(context)),
    watchAccount({ accountId, position }, { signal, requestHeader }) {
      const stillAllowed = () => verifier.verify(requestHeader.get("authorization"));
      return watch.account({ accountId, position, signal, stillAllowed });
    },

    createCharge: (request, context) =>
      ledger.charge({ ...request, amount: required(request.amount) }, requestKey(method.createCharge, request), contextOf(context)),
    voidCharge: (request, context) => ledger.void(request, requestKey(method.voidCharge, request), contextOf(context)),
    recordPayment: (request, context) =>
      ledger.pay({ ...request, amount: required(request.amount) }, requestKey(method.recordPayment, request), contextOf(context)),
    refundPayment: (request, context) =>
      ledger.refund({ ...request, amount: request.amount }, requestKey(method.refundPayment, request), contextOf(context)),
    listCharges: (request) => history.charges(request),
    listPayments: (request) => history.payments(request),

    createInvoice: (request, context) => invoices.create(request, requestKey(method.createInvoice, request), contextOf(context)),
    issueInvoice: (request, context) => invoices.issue(request, requestKey(method.issueInvoice, request), contextOf(context)),
    voidInvoice: (request, context) => invoices.void(request, requestKey(method.voidInvoice, request), contextOf(context)),
    async getInvoice({ invoiceId }) {
      return { invoice: await invoices.get(invoiceId) };
    },
    listInvoices: (request) => invoices.list(request),

    listTransactions: (request) => history.transactions(request),
    getStatement: (request) => history.statement(request),
  });
}

/** Who is accountable: the person for whom a service calls, where there is one. */
function contextOf(context: HandlerContext): Context {
  const { actorId, requestId, traceparent } = rpcContext(context);
  return { actor: { id: actorId, requestId }, traceparent };
}

function callerOf({ values }: HandlerContext): Caller {
  const caller = values.get(callerKey);
  if (!caller) throw new AppError("internal", "The caller is not known.");
  return caller;
}

function toCreated({ id, status }: AccountKey): { accountId: string; status: string } {
  return { accountId: id, status };
}

/** Validation has made sure that there is an amount; types cannot know. */
function required(amount: NewCharge["amount"] | undefined): NewCharge["amount"] {
  if (!amount) throw invalidFields([{ path: "amount", message: "is required" }]);
  return amount;
}

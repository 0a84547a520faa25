/** The methods of `billing.v1.BillingService` and `billing.v1.BillingInternalService`. */
import type { ConnectRouter, HandlerContext, ServiceImpl } from "@connectrpc/connect";
import type { AuditTrail } from "@pm/kit/audit/trail";
import type { Scope } from "@pm/kit/auth/access";
import type { Caller, Verifier } from "@pm/kit/auth/verifier";
import { AppError, invalidFields } from "@pm/kit/errors";
import { callerKey, rpcContext } from "@pm/kit/rpc/guard";
import { BillingService } from "@pm/proto/billing/v1/billing";
import { BillingInternalService } from "@pm/proto/billing/v1/internal";
import { type Accounts, accountNotFound } from "./accounts/accounts.ts";
import { requireKnownPatients } from "./accounts/known-patients.ts";
import type { PayerBalance } from "./accounts/payer-balance.ts";
import type { AccountKey } from "./accounts/store.ts";
import { type Concealing, hasTexts } from "./erasure/concealing.ts";
import type { Erasure } from "./erasure/erasure.ts";
import { requestKey } from "./idempotency/idempotency.ts";
import type { Invoices } from "./invoices/invoices.ts";
import type { Reductions } from "./invoices/reductions.ts";
import type { History } from "./ledger/history.ts";
import type { Ledger } from "./ledger/ledger.ts";
import type { Amount } from "./ledger/posting-request.ts";
import { toMessages } from "./ledger/statements.ts";
import type { Watch } from "./ledger/watch.ts";
import { type Links, linkedPatients } from "./links/links.ts";
import type { Patients } from "./patient-client.ts";
import type { Payers } from "./payers/payers.ts";

/** Callers with `patient:read` but without `billing:read` may see the accounts of the patients that they may see. */
export const secondScopes = new Map<string, Scope>([["billing.v1.BillingService/GetBillingAccount", "patient:read"]]);

type Rules = {
  accounts: Accounts;
  links: Links;
  payers: Payers;
  payerBalance: PayerBalance;
  ledger: Ledger;
  invoices: Invoices;
  reductions: Reductions;
  history: History;
  erasure: Erasure;
  concealing: Concealing;
  watch: Watch;
  patients: Patients;
  verifier: Verifier;
  audit: AuditTrail;
  /** The patients of accounts, whom lists of several accounts show. */
  patientsOf: (accountIds: string[]) => Promise<string[]>;
};

const { method } = BillingService;

export function registerBilling(router: ConnectRouter, rules: Rules): void {
  const methods = { ...accountMethods(rules), ...payerMethods(rules), ...ledgerMethods(rules), ...invoiceMethods(rules) };
  router.service(BillingService, concealingAnswers(methods, rules.concealing));
  const { links, erasure } = rules;
  router.service(BillingInternalService, {
    linkAccounts: (request, context) => links.set(request, rpcContext(context)),
    unlinkAccounts: (request, context) => links.set(request, rpcContext(context)),
    getErasureHolds: async ({ patientId }) => ({ holds: await erasure.holds(patientId) }),
    restrictParty: async (request, context) => {
      await erasure.restrict(request, rpcContext(context));
      return {};
    },
    eraseParty: (request, context) => erasure.erase(request, rpcContext(context)),
  });
}

type Methods = Partial<ServiceImpl<typeof BillingService>>;
type Unary = (request: unknown, context: HandlerContext) => Promise<object>;
type Streaming = (request: unknown, context: HandlerContext) => AsyncIterable<object>;

/** The same methods, but the names and texts of restricted accounts are only for those who may read them. */
function concealingAnswers(methods: Methods, { conceal }: Concealing): Methods {
  const concealing = BillingService.methods.map(({ localName, output, methodKind }) => {
    const made = methods[localName as keyof Methods];
    if (!made || !hasTexts(output)) return [localName, made];
    if (methodKind === "unary") {
      const unary: Unary = async (request, context) => conceal(callerOf(context), output, await (made as Unary)(request, context));
      return [localName, unary];
    }
    const streaming: Streaming = async function* (request, context) {
      for await (const message of (made as Streaming)(request, context)) yield await conceal(callerOf(context), output, message);
    };
    return [localName, streaming];
  });
  return Object.fromEntries(concealing) as Methods;
}

function accountMethods({ accounts, links, watch, patients, verifier, audit }: Rules) {
  return {
    async createBillingAccount(request, context) {
      await requireKnownPatients(patients, callerOf(context), [request.patientId], () => "patient_id");
      return toCreated(await accounts.open(request, rpcContext(context)));
    },
    async batchCreateBillingAccounts({ requests }, context) {
      const patientIds = requests.map(({ patientId }) => patientId);
      await requireKnownPatients(patients, callerOf(context), patientIds, (index) => `requests[${index}].patient_id`);
      return { accounts: (await accounts.openAll(requests, rpcContext(context))).map(toCreated) };
    },
    async getBillingAccount({ key }, context) {
      const caller = callerOf(context);
      const mayReadAll = caller.scopes.has("billing:read");
      const account = await accounts.get(key.case === "patientId" ? { patientId: key.value } : { accountId: key.value ?? "" });
      // The same answer as for an account that does not exist, so that callers learn nothing about patients of others.
      if (!mayReadAll && !(await patients.mayBeSeenBy(account.patient_id, caller.token))) throw accountNotFound(key.value);
      const answer = await links.withLinked(account);
      const patientIds = answer.linkedAccounts.map((linked) => linked.patientId);
      await recordRead(audit, context, "account.read", account.id, {}, patientIds);
      return answer;
    },
    async listBillingAccounts(request, context) {
      const answer = await accounts.list(request);
      const ids = answer.accounts.map((account) => account.accountId);
      const patientIds = answer.accounts.map((account) => account.patientId);
      await recordRead(audit, context, "accounts.listed", "accounts", { ids }, patientIds);
      return answer;
    },
    updateBillingAccount: (request, context) =>
      accounts.update(request, requestKey(method.updateBillingAccount, request), rpcContext(context)),
    async *watchAccount({ accountId, position }, context) {
      const { signal, requestHeader } = context;
      const stillAllowed = () => verifier.verify(requestHeader.get("authorization"));
      const { id } = await accounts.get({ accountId });
      await recordRead(audit, context, "account.watched", id);
      yield* watch.account({ accountId, position, signal, stillAllowed });
    },
  } satisfies Methods;
}

function payerMethods({ payers, payerBalance, audit }: Rules) {
  return {
    createPayer: (request, context) => payers.create(request, requestKey(method.createPayer, request), rpcContext(context)),
    updatePayer: (request, context) => payers.update(request, requestKey(method.updatePayer, request), rpcContext(context)),
    async getPayer({ payerId }, context) {
      const payer = await payers.get(payerId);
      await recordRead(audit, context, "payer.read", payer.payerId);
      return { payer };
    },
    async listPayers(request, context) {
      const answer = await payers.list(request);
      await recordRead(audit, context, "payers.listed", "payers", { ids: answer.payers.map((payer) => payer.payerId) });
      return answer;
    },
    async getPayerBalance(request, context) {
      const answer = await payerBalance(request);
      const ids = answer.accounts.map((account) => account.accountId);
      const patientIds = answer.accounts.map((account) => account.patientId);
      await recordRead(audit, context, "payer_balance.read", request.payerId.toLowerCase(), { ids }, patientIds);
      return answer;
    },
  } satisfies Methods;
}

function ledgerMethods({ ledger, history, links, audit }: Rules) {
  return {
    createCharge: (request, context) =>
      ledger.charge({ ...request, amount: required(request.amount) }, requestKey(method.createCharge, request), rpcContext(context)),
    voidCharge: (request, context) => ledger.void(request, requestKey(method.voidCharge, request), rpcContext(context)),
    recordPayment: (request, context) =>
      ledger.pay({ ...request, amount: required(request.amount) }, requestKey(method.recordPayment, request), rpcContext(context)),
    reallocatePayment: (request, context) => ledger.reallocate(request, requestKey(method.reallocatePayment, request), rpcContext(context)),
    refundPayment: (request, context) =>
      ledger.refund({ ...request, amount: request.amount }, requestKey(method.refundPayment, request), rpcContext(context)),
    async getCharge({ chargeId }, context) {
      const charge = await history.charge(chargeId);
      await recordRead(audit, context, "charge.read", charge.accountId, { chargeId: charge.chargeId });
      return { charge };
    },
    async listCharges(request, context) {
      const answer = await history.charges(request);
      const { charges } = answer;
      await recordRead(audit, context, "charges.listed", subjectOf(request, "charges"), { count: charges.length }, shown(request, charges));
      return answer;
    },
    async getPayment({ paymentId }, context) {
      const payment = await history.payment(paymentId);
      await recordRead(audit, context, "payment.read", payment.accountId, { paymentId: payment.paymentId });
      return { payment };
    },
    async listPayments(request, context) {
      const answer = await history.payments(request);
      const { payments } = answer;
      await recordRead(
        audit,
        context,
        "payments.listed",
        subjectOf(request, "payments"),
        { count: payments.length },
        shown(request, payments),
      );
      return answer;
    },
    async listTransactions(request, context) {
      const answer = await history.transactions(request);
      await recordRead(audit, context, "transactions.listed", request.accountId.toLowerCase(), { count: answer.transactions.length });
      return answer;
    },
    async getStatement(request, context) {
      const { accountId, fromDate, toDate } = request;
      const answer = await links.statement(request);
      await recordRead(audit, context, "statement.read", accountId.toLowerCase(), { fromDate, toDate }, linkedPatients(answer));
      return answer;
    },
    async *streamStatement(request, context) {
      const { accountId, fromDate, toDate } = request;
      const opened = await links.open(request);
      await recordRead(audit, context, "statement.read", accountId.toLowerCase(), { fromDate, toDate }, linkedPatients(opened.statement));
      yield* toMessages(opened, context.signal);
    },
  } satisfies Methods;
}

type ListRequest = { accountId: string; patientId: string };

/** What the entry of a list is about: the account or the patient, or else the list. */
function subjectOf({ accountId, patientId }: ListRequest, list: string): string {
  return accountId.toLowerCase() || patientId.toLowerCase() || list;
}

/** The patients whom a list shows; of one account, its subject says it. */
function shown({ accountId }: ListRequest, items: { patientId: string }[]): string[] {
  return accountId ? [] : [...new Set(items.map(({ patientId }) => patientId))];
}

function invoiceMethods({ invoices, reductions, audit, patientsOf }: Rules) {
  return {
    createInvoice: (request, context) => invoices.create(request, requestKey(method.createInvoice, request), rpcContext(context)),
    issueInvoice: (request, context) => invoices.issue(request, requestKey(method.issueInvoice, request), rpcContext(context)),
    voidInvoice: (request, context) => invoices.void(request, requestKey(method.voidInvoice, request), rpcContext(context)),
    async getInvoice({ invoiceId }, context) {
      const invoice = await invoices.get(invoiceId);
      await recordRead(audit, context, "invoice.read", invoice.accountId, { invoiceId: invoice.invoiceId });
      return { invoice };
    },
    async listInvoices(request, context) {
      const answer = await invoices.list(request);
      const ids = answer.invoices.map((invoice) => invoice.invoiceId);
      await recordRead(audit, context, "invoices.listed", subjectOf(request, "invoices"), { ids }, shown(request, answer.invoices));
      return answer;
    },

    discountInvoice: (request, context) => reductions.discount(request, requestKey(method.discountInvoice, request), rpcContext(context)),
    createCreditNote: (request, context) => reductions.credit(request, requestKey(method.createCreditNote, request), rpcContext(context)),
    writeOff: (request, context) => reductions.writeOff(request, requestKey(method.writeOff, request), rpcContext(context)),
    async getCreditNote({ creditNoteId }, context) {
      const creditNote = await reductions.creditNote(creditNoteId);
      await recordRead(audit, context, "credit_note.read", creditNote.accountId, { creditNoteId: creditNote.creditNoteId });
      return { creditNote };
    },
    async listCreditNotes(request, context) {
      const answer = await reductions.creditNotes(request);
      const ids = answer.creditNotes.map((note) => note.creditNoteId);
      const patientIds = request.accountId ? [] : await patientsOf(answer.creditNotes.map((note) => note.accountId));
      await recordRead(audit, context, "credit_notes.listed", request.accountId.toLowerCase() || "credit notes", { ids }, patientIds);
      return answer;
    },
  } satisfies Methods;
}

/**
 * Records what the caller is about to see.
 * @param patientIds the patients that a list of several accounts shows
 */
function recordRead(
  audit: AuditTrail,
  context: HandlerContext,
  ...[action, subject, details = {}, patientIds = []]: [action: string, subject: string, details?: object, patientIds?: string[]]
): Promise<void> {
  const { actorId, requestId } = rpcContext(context);
  return audit.record({ actorId, action, subject, requestId, details, patientIds });
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

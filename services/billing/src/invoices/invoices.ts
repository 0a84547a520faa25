/**
 * Invoices: charges on paper. A draft is issued under the next number of the year. An invoice is paid when all its
 * charges are settled.
 */
import { create, type DescMessage, type MessageShape } from "@bufbuild/protobuf";
import { insertAuditEntries } from "@pm/kit/audit/audit";
import { addDays, isDate } from "@pm/kit/calendar";
import type { Cursors } from "@pm/kit/cursor";
import { AppError, invalidFields } from "@pm/kit/errors";
import { insertOutboxEvents } from "@pm/kit/kafka/outbox";
import { inTransaction, type Queries } from "@pm/kit/postgres/transaction";
import type { RequestContext } from "@pm/kit/request-context";
import {
  type CreateInvoiceRequest,
  type CreateInvoiceResponse,
  CreateInvoiceResponseSchema,
  type Invoice,
  InvoiceSchema,
  InvoiceStatus,
  type IssueInvoiceRequest,
  type IssueInvoiceResponse,
  IssueInvoiceResponseSchema,
  type ListInvoicesRequest,
  type ListInvoicesResponse,
  ListInvoicesResponseSchema,
  type VoidInvoiceRequest,
  type VoidInvoiceResponse,
  VoidInvoiceResponseSchema,
} from "@pm/proto/billing/v1/billing";
import { accountNotFound } from "../accounts/accounts.ts";
import { requireNotMerged } from "../accounts/merged.ts";
import { toMoney } from "../accounts/messages.ts";
import { accountIdsOf } from "../accounts/patients-store.ts";
import { lockAccounts } from "../accounts/store.ts";
import { daysOf, today } from "../dates.ts";
import { toOutboxEvent } from "../events.ts";
import { once, type RequestKey, requireEtag, retries } from "../idempotency/idempotency.ts";
import { type ChargeRow, leftOn } from "../ledger/store.ts";
import { readPage } from "../paging.ts";
import type { BillingDatabase, Row } from "../tables.ts";
import { invoiceEtag, toInvoice } from "./messages.ts";
import { chargesFor, findInvoice, type InvoiceRow, insertInvoice, issueDraft, linesOf, listInvoices, voidInvoice } from "./store.ts";

const maxLines = 500;
const daysToPay = 30;

export type Invoices = {
  create(request: CreateInvoiceRequest, key: RequestKey, context: RequestContext): Promise<CreateInvoiceResponse>;
  issue(request: IssueInvoiceRequest, key: RequestKey, context: RequestContext): Promise<IssueInvoiceResponse>;
  void(request: VoidInvoiceRequest, key: RequestKey, context: RequestContext): Promise<VoidInvoiceResponse>;
  /** @throws AppError not_found */
  get(id: string): Promise<Invoice>;
  list(request: ListInvoicesRequest): Promise<ListInvoicesResponse>;
};

export type InvoiceOptions = {
  db: BillingDatabase;
  cursors: Cursors;
  now: () => Date;
  clinicTimeZone: string;
  newId: () => string;
  /** Called after events were committed, with the accounts that have changed for those who watch them. */
  committed: (accountIds: string[]) => void;
};

export function createInvoices(options: InvoiceOptions): Invoices {
  const { db, cursors, now, clinicTimeZone } = options;
  return {
    create: (request, key, context) => createInvoice(options, request, key, context),

    issue: (request, key, context) =>
      changeInvoice(options, request, key, IssueInvoiceResponseSchema, context, async (tx, account, invoice) => {
        requireNotMerged(account.merged_into);
        if (invoice.status !== "DRAFT") throw notPossible("INVOICE_NOT_DRAFT", "Only a draft can be issued.");
        await issue(tx, account, invoice, { now: now(), clinicTimeZone, context });
        return create(IssueInvoiceResponseSchema, { invoice: await readInvoice(tx, invoice.id) });
      }),

    void: (request, key, context) =>
      changeInvoice(options, request, key, VoidInvoiceResponseSchema, context, async (tx, account, invoice) => {
        if (invoice.status === "VOID") throw notPossible("INVOICE_VOIDED", "The invoice has been voided already.");
        if (invoice.credited > 0n)
          throw notPossible("INVOICE_CREDITED", "A part of the invoice was credited. Credit the rest of it instead.");
        if (invoice.written_off > 0n)
          throw notPossible("INVOICE_WRITTEN_OFF", "A part of the invoice was written off, so it cannot be voided.");
        if (invoice.state === "PAID" && invoice.total > 0n)
          throw notPossible("INVOICE_PAID", "The invoice is paid. Refund the payment first.");
        await voidInvoice(tx, invoice.id, now(), request.reason);
        const details = { invoiceId: invoice.id };
        await insertAuditEntries(tx, [{ ...context, action: "invoice.voided", subject: account.id, details }]);
        return create(VoidInvoiceResponseSchema, { invoice: await readInvoice(tx, invoice.id) });
      }),

    get: (id) => readInvoice(db, id),

    async list(request) {
      const { accountId, status, overdueOnly } = request;
      const payerId = request.payerId.toLowerCase();
      const filter = {
        ...(await filterOf(db, request)),
        dueBefore: overdueOnly ? today(now(), clinicTimeZone) : undefined,
        payerId: payerId || undefined,
      };
      const { items, nextPageToken } = await readPage(cursors, request, {
        // Without newer filters as it was before there were any, so that pages go on while a new release is rolled out.
        query: ["invoices", accountId, status, overdueOnly, ...(payerId ? [payerId] : []), ...newFilters(request)],
        read: async (page) => {
          const rows = await listInvoices(db, filter, page);
          const ids = rows.map(({ id }) => id);
          const lines = request.includeLines ? await linesOf(db, ids) : undefined;
          return rows.map((row) => ({ row, lines: lines?.get(row.id) ?? [] }));
        },
        positionOf: ({ row }) => row.id,
        schema: InvoiceSchema,
        toItem: ({ row, lines }) => toInvoice(row, lines),
      });
      return create(ListInvoicesResponseSchema, { invoices: items, nextPageToken });
    },
  };
}

/** What a list shows, besides what depends on today. */
async function filterOf(db: BillingDatabase, request: ListInvoicesRequest) {
  const { accountId, patientId, status, statuses, invoiceIds, number } = request;
  const ofPatient = patientId ? await accountIdsOf(db, patientId) : undefined;
  const ofAccount = accountId ? [accountId.toLowerCase()] : undefined;
  const one = status === InvoiceStatus.UNSPECIFIED ? undefined : [InvoiceStatus[status]];
  const several = statuses.length > 0 ? statuses.map((each) => InvoiceStatus[each]) : undefined;
  return {
    accountIds: both(ofAccount, ofPatient),
    states: both(one, several),
    ids: invoiceIds.length > 0 ? invoiceIds : undefined,
    number: number || undefined,
    ...daysOf(request),
  };
}

/** What is in both lists, where there are both. */
function both<Item>(one: Item[] | undefined, other: Item[] | undefined): Item[] | undefined {
  return one && other ? one.filter((each) => other.includes(each)) : (one ?? other);
}

function newFilters({ patientId, invoiceIds, number, statuses, fromDate, toDate }: ListInvoicesRequest): unknown[] {
  const given = Object.entries({ patientId, invoiceIds, number, statuses, fromDate, toDate }).filter(([, value]) => value.length > 0);
  return given.length > 0 ? [given] : [];
}

async function createInvoice(
  { db, now, clinicTimeZone, newId, committed }: InvoiceOptions,
  request: CreateInvoiceRequest,
  key: RequestKey,
  context: RequestContext,
): Promise<CreateInvoiceResponse> {
  const at = now();
  if (request.dueDate !== "" && (!isDate(request.dueDate) || request.dueDate < today(at, clinicTimeZone)))
    throw invalidFields([{ path: "due_date", message: "must be a day of the calendar, today or later" }]);

  async function work(tx: Queries, account: Row<"accounts">): Promise<CreateInvoiceResponse> {
    requireNotMerged(account.merged_into);
    requireNotClosed(account);
    const charges = await chargesFor(tx, account.id, request.chargeIds, maxLines);
    requireInvoiceable(charges, request.chargeIds);
    const id = newId();
    await insertInvoice(tx, {
      id,
      accountId: account.id,
      total: charges.reduce((sum, charge) => sum + charge.amount - charge.reduced, 0n),
      dueDate: request.dueDate || null,
      createdAt: at,
      chargeIds: charges.map((charge) => charge.id),
    });
    const details = { invoiceId: id, charges: charges.length };
    await insertAuditEntries(tx, [{ ...context, action: "invoice.created", subject: account.id, details }]);
    if (request.issue) await issue(tx, account, await findOrThrow(tx, id), { now: now(), clinicTimeZone, context });
    return create(CreateInvoiceResponseSchema, { invoice: await readInvoice(tx, id) });
  }

  const answer = await inTransaction(
    db,
    async (tx) => {
      const [account] = await lockAccounts(tx, [request.accountId]);
      if (!account) throw accountNotFound();
      return once(tx, { key, output: CreateInvoiceResponseSchema, now: at, subject: () => account.id, context }, () => work(tx, account));
    },
    { ...retries, turn: request.accountId.toLowerCase() },
  );
  committed([]);
  return answer;
}

/** Changes an invoice under the lock of its account, so that nobody else changes it or its charges. */
export async function changeInvoice<Output extends DescMessage>(
  { db, now, committed }: InvoiceOptions,
  { invoiceId, etag }: { invoiceId: string; etag: string },
  key: RequestKey,
  output: Output,
  context: RequestContext,
  work: (tx: Queries, account: Row<"accounts">, invoice: InvoiceRow) => Promise<MessageShape<Output>>,
): Promise<MessageShape<Output>> {
  const { account_id: accountId } = await findOrThrow(db, invoiceId);
  const answer = await inTransaction(
    db,
    async (tx) => {
      const [account] = await lockAccounts(tx, [accountId]);
      // Read again, because it may have changed before it was locked.
      const invoice = await findOrThrow(tx, invoiceId);
      if (!account) throw invoiceNotFound();
      return once(tx, { key, output, now: now(), subject: () => accountId, context }, async () => {
        requireNotClosed(account);
        requireEtag(etag, invoiceEtag(invoice), "invoice");
        return work(tx, account, invoice);
      });
    },
    { ...retries, turn: accountId },
  );
  committed([accountId]);
  return answer;
}

async function issue(
  tx: Queries,
  account: Row<"accounts">,
  invoice: InvoiceRow,
  { now, clinicTimeZone, context }: { now: Date; clinicTimeZone: string; context: RequestContext },
): Promise<void> {
  const issueDate = today(now, clinicTimeZone);
  const dueDate = invoice.due_date && invoice.due_date >= issueDate ? invoice.due_date : addDays(issueDate, daysToPay);
  const number = await issueDraft(tx, invoice, issueDate, dueDate);
  const value = { invoiceId: invoice.id, invoiceNumber: number, total: toMoney(invoice.total, account.currency), dueDate };
  const event = toOutboxEvent(account, { case: "invoiceIssued", value }, { at: now, traceparent: context.traceparent });
  await insertOutboxEvents(tx, [event]);
  const details = { invoiceId: invoice.id, number };
  await insertAuditEntries(tx, [{ ...context, action: "invoice.issued", subject: account.id, details }]);
}

export async function readInvoice(db: Queries, id: string): Promise<Invoice> {
  return toInvoice(await findOrThrow(db, id), (await linesOf(db, [id])).get(id) ?? []);
}

export async function findOrThrow(db: Queries, id: string): Promise<InvoiceRow> {
  const invoice = await findInvoice(db, id);
  if (!invoice) throw invoiceNotFound();
  return invoice;
}

/** The charges must exist, be on no invoice, and not be voided or written off as a whole. */
function requireInvoiceable(charges: ChargeRow[], named: string[]): void {
  if (charges.length === 0 && named.length === 0)
    throw notPossible("NOTHING_TO_INVOICE", "The account has no charges that are on no invoice.");
  const found = new Map(charges.map((charge) => [charge.id, charge]));
  const wrong = named.flatMap((id, index) => {
    const charge = found.get(id.toLowerCase());
    const path = `charge_ids[${index}]`;
    if (!charge) return [{ path, message: "is no charge of this account" }];
    if (charge.voided_at) return [{ path, message: "was voided" }];
    if (charge.written_off > 0n && leftOn(charge) === 0n) return [{ path, message: "was written off" }];
    return charge.invoice_id ? [{ path, message: `is on the invoice ${charge.invoice_id}` }] : [];
  });
  if (wrong.length > 0) throw invalidFields(wrong);
}

function requireNotClosed({ status }: Row<"accounts">): void {
  if (status === "CLOSED") throw notPossible("ACCOUNT_CLOSED", "The account is closed. Set its status to ACTIVE to use it again.");
}

function invoiceNotFound(): AppError {
  return new AppError("not_found", "There is no such invoice.", { reason: "INVOICE_NOT_FOUND" });
}

export function notPossible(reason: string, message: string): AppError {
  return new AppError("failed_precondition", message, { reason });
}

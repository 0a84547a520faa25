/** Invoices: charges on paper. A draft becomes issued with the next number of the year; paid is what all of whose charges are settled. */
import { create } from "@bufbuild/protobuf";
import { timestampFromDate } from "@bufbuild/protobuf/wkt";
import type { Cursors } from "@pm/kit/cursor";
import { AppError, invalidFields } from "@pm/kit/errors";
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
import { accountNotFound, defaultPageSize } from "../accounts/accounts.ts";
import {
  type AccountsTable,
  announce,
  type BillingDatabase,
  type Context,
  lockAccounts,
  type Queries,
  transaction,
} from "../accounts/store.ts";
import { addDays, isDate, toDate } from "../dates.ts";
import { once, type RequestKey, requireEtag } from "../idempotency.ts";
import { toOutboxEvent } from "../ledger/messages.ts";
import type { ChargeRow } from "../ledger/store.ts";
import { toMoney } from "../money.ts";
import {
  addAudit,
  chargesFor,
  findInvoice,
  type InvoiceLineRow,
  type InvoiceRow,
  insertInvoice,
  issueDraft,
  linesOf,
  listInvoices,
  voidIssued,
} from "./store.ts";

const maxLines = 500;
const daysToPay = 30;

export type Invoices = {
  create(request: CreateInvoiceRequest, key: RequestKey, context: Context): Promise<CreateInvoiceResponse>;
  issue(request: IssueInvoiceRequest, key: RequestKey, context: Context): Promise<IssueInvoiceResponse>;
  void(request: VoidInvoiceRequest, key: RequestKey, context: Context): Promise<VoidInvoiceResponse>;
  /** @throws AppError not_found */
  get(id: string): Promise<Invoice>;
  list(request: ListInvoicesRequest): Promise<ListInvoicesResponse>;
};

export function createInvoices(options: {
  db: BillingDatabase;
  cursors: Cursors;
  now: () => Date;
  newId: () => string;
  committed: (accountIds: string[]) => void;
}): Invoices {
  const { db, cursors, now, newId, committed } = options;

  /** Locks the account of an invoice, so that neither the invoice nor its charges change under our feet. */
  async function lockInvoice(tx: Queries, id: string): Promise<{ account: AccountsTable; invoice: InvoiceRow }> {
    const found = await findInvoice(tx, id);
    if (!found) throw invoiceNotFound();
    const [account] = await lockAccounts(tx, [found.account_id]);
    const invoice = await findInvoice(tx, id);
    if (!account || !invoice) throw invoiceNotFound();
    return { account, invoice };
  }

  async function issue(tx: Queries, account: AccountsTable, invoice: InvoiceRow, context: Context): Promise<void> {
    const today = toDate(now());
    const dueDate = invoice.due_date && invoice.due_date >= today ? invoice.due_date : addDays(today, daysToPay);
    await issueDraft(tx, invoice.id, today, dueDate);
    const issued = await read(tx, invoice.id);
    const value = { invoiceId: invoice.id, invoiceNumber: issued.number, total: toMoney(invoice.total, account.currency), dueDate };
    const { traceparent, actor } = context;
    await announce(
      tx,
      toOutboxEvent({ id: account.id, patientId: account.patient_id }, { case: "invoiceIssued", value }, { now: now(), traceparent }),
    );
    const details = { invoiceId: invoice.id, number: issued.number };
    await addAudit(tx, { action: "invoice.issued", subject: account.id, details, actor });
  }

  async function read(tx: Queries, id: string): Promise<Invoice> {
    const row = await findInvoice(tx, id);
    if (!row) throw invoiceNotFound();
    return toInvoice(row, await linesOf(tx, id));
  }

  return {
    async create(request, key, context) {
      const at = now();
      if (request.dueDate !== "" && (!isDate(request.dueDate) || request.dueDate < toDate(at)))
        throw invalidFields([{ path: "due_date", message: "must be a day of the calendar, today or later" }]);
      const answer = await transaction(db, async (tx) => {
        const [account] = await lockAccounts(tx, [request.accountId]);
        if (!account) throw accountNotFound();
        return once(tx, key, CreateInvoiceResponseSchema, at, async () => {
          requireNotClosed(account);
          const charges = await chargesFor(tx, account.id, request.chargeIds, maxLines);
          requireInvoiceable(charges, request.chargeIds);
          const id = newId();
          await insertInvoice(tx, {
            id,
            accountId: account.id,
            total: charges.reduce((sum, charge) => sum + charge.amount, 0n),
            dueDate: request.dueDate || null,
            createdAt: at,
            chargeIds: charges.map((charge) => charge.id),
          });
          const details = { invoiceId: id, charges: charges.length };
          await addAudit(tx, { action: "invoice.created", subject: account.id, details, actor: context.actor });
          if (request.issue) await issue(tx, account, (await findInvoice(tx, id)) as InvoiceRow, context);
          return create(CreateInvoiceResponseSchema, { invoice: await read(tx, id) });
        });
      });
      committed([]);
      return answer;
    },

    async issue(request, key, context) {
      const answer = await transaction(db, async (tx) => {
        const { account, invoice } = await lockInvoice(tx, request.invoiceId);
        return once(tx, key, IssueInvoiceResponseSchema, now(), async () => {
          requireNotClosed(account);
          requireEtag(request.etag, etagOf(invoice), "invoice");
          if (invoice.status !== "DRAFT") throw notPossible("INVOICE_NOT_DRAFT", "Only a draft can be issued.");
          await issue(tx, account, invoice, context);
          return create(IssueInvoiceResponseSchema, { invoice: await read(tx, invoice.id) });
        });
      });
      committed([]);
      return answer;
    },

    async void(request, key, context) {
      const answer = await transaction(db, async (tx) => {
        const { account, invoice } = await lockInvoice(tx, request.invoiceId);
        return once(tx, key, VoidInvoiceResponseSchema, now(), async () => {
          requireNotClosed(account);
          requireEtag(request.etag, etagOf(invoice), "invoice");
          if (invoice.status === "VOID") throw notPossible("INVOICE_VOIDED", "The invoice has been voided already.");
          if (invoice.status === "ISSUED" && invoice.outstanding === 0n)
            throw notPossible("INVOICE_PAID", "The invoice is paid. Refund the payment first.");
          await voidIssued(tx, invoice.id, now());
          const details = { invoiceId: invoice.id, reason: request.reason };
          await addAudit(tx, { action: "invoice.voided", subject: account.id, details, actor: context.actor });
          return create(VoidInvoiceResponseSchema, { invoice: await read(tx, invoice.id) });
        });
      });
      committed([]);
      return answer;
    },

    get: (id) => read(db, id),

    async list({ accountId, status, overdueOnly, pageSize, pageToken }) {
      const filter = {
        accountId: accountId || undefined,
        status: status === InvoiceStatus.UNSPECIFIED ? undefined : InvoiceStatus[status],
        dueBefore: overdueOnly ? toDate(now()) : undefined,
      };
      const query = ["invoices", accountId, status, overdueOnly];
      const limit = pageSize || defaultPageSize;
      const before = pageToken ? String(cursors.open(query, pageToken, "page_token")[0]) : undefined;
      const rows = await listInvoices(db, filter, { before, limit: limit + 1 });
      const last = rows.length > limit ? rows[limit - 1] : undefined;
      return create(ListInvoicesResponseSchema, {
        invoices: rows.slice(0, limit).map((row) => toInvoice(row, [])),
        nextPageToken: last ? cursors.seal(query, [last.id]) : "",
      });
    },
  };
}

/** Charges must be there, on no invoice and not voided. */
function requireInvoiceable(charges: ChargeRow[], named: string[]): void {
  if (charges.length === 0 && named.length === 0)
    throw notPossible("NOTHING_TO_INVOICE", "The account has no charges that are on no invoice.");
  const found = new Map(charges.map((charge) => [charge.id, charge]));
  const wrong = named.flatMap((id, index) => {
    const charge = found.get(id.toLowerCase());
    const path = `charge_ids[${index}]`;
    if (!charge) return [{ path, message: "is no charge of this account" }];
    if (charge.voided_at) return [{ path, message: "was voided" }];
    return charge.invoice_id ? [{ path, message: `is on the invoice ${charge.invoice_id}` }] : [];
  });
  if (wrong.length > 0) throw invalidFields(wrong);
}

export function etagOf(invoice: Pick<InvoiceRow, "version">): string {
  return `v${invoice.version}`;
}

export function toInvoice(row: InvoiceRow, lines: InvoiceLineRow[]): Invoice {
  const { currency } = row;
  const isPaid = row.status === "ISSUED" && row.outstanding === 0n;
  return create(InvoiceSchema, {
    invoiceId: row.id,
    accountId: row.account_id,
    number: row.number ?? "",
    status: isPaid ? InvoiceStatus.PAID : InvoiceStatus[row.status],
    total: toMoney(row.total, currency),
    outstanding: toMoney(row.outstanding, currency),
    issueDate: row.issue_date ?? "",
    dueDate: row.due_date ?? "",
    createTime: timestampFromDate(row.created_at),
    ...(row.voided_at && { voidTime: timestampFromDate(row.voided_at) }),
    etag: etagOf(row),
    lines: lines.map((line) => ({
      chargeId: line.charge_id,
      description: line.description,
      serviceDate: line.service_date,
      amount: toMoney(line.amount, currency),
    })),
  });
}

function requireNotClosed({ status }: AccountsTable): void {
  if (status === "CLOSED") throw notPossible("ACCOUNT_CLOSED", "The account is closed. Set its status to ACTIVE to use it again.");
}

function invoiceNotFound(): AppError {
  return new AppError("not_found", "There is no such invoice.", { reason: "INVOICE_NOT_FOUND" });
}

function notPossible(reason: string, message: string): AppError {
  return new AppError("failed_precondition", message, { reason });
}

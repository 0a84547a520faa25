/**
 * What lowers an invoice: discounts of a draft, credit notes against an issued invoice, and write-offs of what is open.
 */
import { create } from "@bufbuild/protobuf";
import type { Cursors } from "@pm/kit/cursor";
import { AppError, invalidFields } from "@pm/kit/errors";
import { inTransaction, type Queries } from "@pm/kit/postgres/transaction";
import type { RequestContext } from "@pm/kit/request-context";
import {
  type CreateCreditNoteRequest,
  type CreateCreditNoteResponse,
  CreateCreditNoteResponseSchema,
  type CreditNote,
  CreditNoteSchema,
  type DiscountInvoiceRequest,
  type DiscountInvoiceResponse,
  DiscountInvoiceResponseSchema,
  type ListCreditNotesRequest,
  type ListCreditNotesResponse,
  ListCreditNotesResponseSchema,
  type Reduction,
  type WriteOffRequest,
  type WriteOffResponse,
  WriteOffResponseSchema,
} from "@pm/proto/billing/v1/billing";
import { toMoney } from "../accounts/messages.ts";
import { lockAccounts } from "../accounts/store.ts";
import { today } from "../dates.ts";
import { once, type RequestKey, retries } from "../idempotency/idempotency.ts";
import { reduceCharges } from "../ledger/reductions.ts";
import { amountIn, type Target } from "../ledger/split.ts";
import { findOwners } from "../ledger/store.ts";
import { readPage } from "../paging.ts";
import type { Row } from "../tables.ts";
import { addDiscountLines, creditNoteLines, findCreditNote, insertCreditNote, listCreditNotes } from "./credit-note-store.ts";
import { changeInvoice, findOrThrow, type InvoiceOptions, notPossible, readInvoice } from "./invoices.ts";
import { toCreditNote } from "./messages.ts";
import { nextNumber } from "./number-store.ts";
import { chargesOn, type InvoiceRow } from "./store.ts";

/** With the longest texts, such an invoice is still an answer that every client can receive. */
const maxLinesWithDiscounts = 1_500;

export type Reductions = {
  discount(request: DiscountInvoiceRequest, key: RequestKey, context: RequestContext): Promise<DiscountInvoiceResponse>;
  credit(request: CreateCreditNoteRequest, key: RequestKey, context: RequestContext): Promise<CreateCreditNoteResponse>;
  writeOff(request: WriteOffRequest, key: RequestKey, context: RequestContext): Promise<WriteOffResponse>;
  /** @throws AppError not_found */
  creditNote(id: string): Promise<CreditNote>;
  creditNotes(request: ListCreditNotesRequest): Promise<ListCreditNotesResponse>;
};

export function createReductions(options: InvoiceOptions & { cursors: Cursors }): Reductions {
  const { db, cursors, now, newId, committed } = options;
  return {
    discount: (request, key, context) =>
      changeInvoice(options, request, key, DiscountInvoiceResponseSchema, context, async (tx, account, invoice) => {
        if (invoice.status !== "DRAFT")
          throw notPossible("INVOICE_NOT_DRAFT", "Only a draft is discounted. Credit an issued invoice by a credit note.");
        const { invoiceId, reason } = request;
        const targets = toTargets(request.reductions, account.currency);
        const work = {
          kind: "discount" as const,
          chargeIds: await chargesOf(tx, invoice, targets),
          targets,
          description: reason,
          key,
          context,
        };
        const { parts } = await reduceCharges(tx, account, work, { now: now(), newId }, ({ amount, reductions, allocations }) => ({
          event: { case: "chargeDiscounted", value: { invoiceId, amount: toMoney(amount, account.currency), reductions, allocations } },
          details: { invoiceId },
        }));
        await addDiscountLines(tx, invoice.id, reason, parts);
        const discounted = await readInvoice(tx, invoice.id);
        if (discounted.lines.length > maxLinesWithDiscounts)
          throw notPossible(
            "INVOICE_TOO_LONG",
            `An invoice has at most ${maxLinesWithDiscounts} lines, and each discounted charge is one.`,
          );
        return create(DiscountInvoiceResponseSchema, { invoice: discounted });
      }),

    credit: (request, key, context) =>
      changeInvoice(options, { ...request, etag: "" }, key, CreateCreditNoteResponseSchema, context, (tx, account, invoice) =>
        credit(tx, options, { request, key, context, account, invoice }),
      ),

    async writeOff(request, key, context) {
      const { target } = request;
      const id = target.value?.toLowerCase() ?? "";
      const owner = target.case === "invoiceId" ? await findOrThrow(db, id) : (await findOwners(db, [id], []))[0];
      if (!owner) throw new AppError("not_found", "There is no such charge.", { reason: "CHARGE_NOT_FOUND" });
      const { account_id: accountId } = owner;
      const work = { request, key, context, accountId };
      const answer = await inTransaction(db, (tx) => writeOff(tx, options, work), { ...retries, turn: accountId });
      committed([accountId]);
      return answer;
    },

    async creditNote(id) {
      const note = await findCreditNote(db, id);
      if (!note) throw new AppError("not_found", "There is no such credit note.", { reason: "CREDIT_NOTE_NOT_FOUND" });
      return toCreditNote(note, await creditNoteLines(db, note.transaction_id, note.invoice_id));
    },

    async creditNotes(request) {
      const { accountId, invoiceId } = request;
      const filter = { accountId: accountId || undefined, invoiceId: invoiceId || undefined };
      const { items: creditNotes, nextPageToken } = await readPage(cursors, request, {
        query: ["credit-notes", accountId, invoiceId],
        read: (page) => listCreditNotes(db, filter, page),
        positionOf: ({ id }) => id,
        schema: CreditNoteSchema,
        toItem: (row) => toCreditNote(row, []),
      });
      return create(ListCreditNotesResponseSchema, { creditNotes, nextPageToken });
    },
  };
}

type Credit = {
  request: CreateCreditNoteRequest;
  key: RequestKey;
  context: RequestContext;
  account: Row<"accounts">;
  invoice: InvoiceRow;
};

async function credit(
  tx: Queries,
  { now, newId, clinicTimeZone }: InvoiceOptions,
  { request, key, context, account, invoice }: Credit,
): Promise<CreateCreditNoteResponse> {
  if (invoice.status !== "ISSUED")
    throw notPossible("INVOICE_NOT_ISSUED", "Only an issued invoice is credited. Discount a draft, or void it.");
  if (request.reductions.length === 0 && invoice.total > 0n && invoice.credited + invoice.written_off === invoice.total)
    throw notPossible(
      "INVOICE_CREDITED",
      invoice.written_off > 0n
        ? "Nothing is left of the invoice: what was not credited was written off."
        : "The invoice is credited in full already.",
    );
  const { reason } = request;
  const { currency } = account;
  const everything: Target[] = [{ invoiceId: invoice.id }];
  const targets = request.reductions.length > 0 ? toTargets(request.reductions, currency) : everything;
  const chargeIds = await chargesOf(tx, invoice, targets);
  const id = newId();
  const issueDate = today(now(), clinicTimeZone);
  const number = await nextNumber(tx, "creditNote", issueDate);
  const work = { kind: "credit_note" as const, chargeIds, targets, description: `${number}: ${reason}`, key, context };
  const reduced = await reduceCharges(tx, account, work, { now: now(), newId }, ({ amount, reductions, allocations }) => ({
    event: {
      case: "creditNoteIssued",
      value: {
        ...{ creditNoteId: id, creditNoteNumber: number, invoiceId: invoice.id },
        ...{ amount: toMoney(amount, currency), reductions, allocations },
      },
    },
    details: { creditNoteId: id, invoiceId: invoice.id, number },
  }));
  const { transactionId, at, amount, allocations } = reduced;
  await insertCreditNote(tx, {
    ...{ id, account_id: account.id, invoice_id: invoice.id, transaction_id: transactionId },
    ...{ number, issue_date: issueDate, total: amount, reason, created_at: at },
  });
  const note = await findCreditNote(tx, id);
  if (!note) throw new Error("the credit note was not written");
  const lines = await creditNoteLines(tx, transactionId, invoice.id);
  return create(CreateCreditNoteResponseSchema, { creditNote: toCreditNote(note, lines), allocations });
}

async function writeOff(
  tx: Queries,
  { now, newId }: InvoiceOptions,
  { request, key, context, accountId }: { request: WriteOffRequest; key: RequestKey; context: RequestContext; accountId: string },
): Promise<WriteOffResponse> {
  const { target, reason } = request;
  const id = target.value?.toLowerCase() ?? "";
  const [account] = await lockAccounts(tx, [accountId]);
  if (!account) throw new Error("the account of a charge is gone");
  const invoice = target.case === "invoiceId" ? await findOrThrow(tx, id) : undefined;
  return once(tx, { key, output: WriteOffResponseSchema, now: now(), subject: () => account.id, context }, async () => {
    if (invoice && invoice.status !== "ISSUED")
      throw notPossible("INVOICE_NOT_ISSUED", "Only what is open on an issued invoice is written off.");
    const part = amountIn(account.currency, request.amount, "amount");
    const targets: Target[] = [invoice ? { invoiceId: id, ...part } : { chargeId: id, ...part }];
    const chargeIds = invoice ? await chargesOn(tx, id) : [id];
    const work = { kind: "write_off" as const, chargeIds, targets, description: reason, key, context };
    const { amount, reductions } = await reduceCharges(tx, account, work, { now: now(), newId }, (reduced) => ({
      event: { case: "writtenOff", value: { amount: toMoney(reduced.amount, account.currency), reductions: reduced.reductions } },
    }));
    return create(WriteOffResponseSchema, {
      accountId: account.id,
      amount: toMoney(amount, account.currency),
      reductions: reductions.map(({ chargeId, amount: part }) => ({ chargeId, ...(part && { amount: part }) })),
    });
  });
}

function toTargets(reductions: Reduction[], currency: string): Target[] {
  return reductions.map(({ chargeId, amount }, index) => ({
    chargeId: chargeId.toLowerCase(),
    ...amountIn(currency, amount, `reductions[${index}].amount`),
  }));
}

/** The charges on an invoice. @throws AppError invalid_argument if a target is another charge */
async function chargesOf(tx: Queries, invoice: InvoiceRow, targets: Target[]): Promise<string[]> {
  const ids = await chargesOn(tx, invoice.id);
  const wrong = targets.flatMap((target, index) =>
    "chargeId" in target && !ids.includes(target.chargeId)
      ? [{ path: `reductions[${index}].charge_id`, message: "is no charge on this invoice" }]
      : [],
  );
  if (wrong.length > 0) throw invalidFields(wrong);
  return ids;
}

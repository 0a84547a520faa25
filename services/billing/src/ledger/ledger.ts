/**
 * Charges, payments, refunds and voids. Whatever arrives while a transaction is under way goes into the next one together:
 * under load, locks, round trips and commits are paid for once per batch, and an account that everybody uses at once is
 * posted to by few transactions instead of by a queue of them.
 */
import { fromBinary } from "@bufbuild/protobuf";
import { createBatcher } from "@pm/kit/batcher";
import { AppError, invalidFields, toAppError } from "@pm/kit/errors";
import {
  type CreateChargeResponse,
  CreateChargeResponseSchema,
  type RecordPaymentResponse,
  RecordPaymentResponseSchema,
  type RefundPaymentResponse,
  RefundPaymentResponseSchema,
  type VoidChargeResponse,
  VoidChargeResponseSchema,
} from "@pm/proto/billing/v1/billing";
import { type BillingDatabase, type Context, findRequests, lockAccounts, type Queries, transaction } from "../accounts/store.ts";
import { isDate, latestServiceDate, toDate } from "../dates.ts";
import { answerOf, type RequestKey } from "../idempotency.ts";
import { type Job, loadBooks, type NewCharge, type NewPayment, type NewRefund, type NewVoid, startBatch } from "./batch.ts";
import { findOwners, write } from "./store.ts";

export type Ledger = {
  charge(request: NewCharge, key: RequestKey, context: Context): Promise<CreateChargeResponse>;
  pay(request: NewPayment, key: RequestKey, context: Context): Promise<RecordPaymentResponse>;
  refund(request: NewRefund, key: RequestKey, context: Context): Promise<RefundPaymentResponse>;
  void(request: NewVoid, key: RequestKey, context: Context): Promise<VoidChargeResponse>;
};

type Outcome = { response: Uint8Array } | { refusal: unknown };

const maxBatch = 64;
const maxInFlight = 2;

export function createLedger(options: {
  db: BillingDatabase;
  now: () => Date;
  newId: () => string;
  /** Called after a batch was committed, with the accounts that it changed. */
  committed: (accountIds: string[]) => void;
}): Ledger {
  const { db, now, newId, committed } = options;
  const batcher = createBatcher<Job, Outcome>({ run: runBatch, maxSize: maxBatch, maxInFlight });

  async function runBatch(jobs: Job[]): Promise<Outcome[]> {
    try {
      const { outcomes, changed } = await transaction(db, (tx) => carryOut(tx, jobs));
      if (changed.length > 0) committed(changed);
      return outcomes;
    } catch (error) {
      if (jobs.length === 1) throw error;
      // One of them may be what failed: each gets an answer of its own.
      const alone: Outcome[] = [];
      for (const job of jobs) {
        const [outcome] = await runBatch([job]).catch((reason: unknown): Outcome[] => {
          // Without a database, the others need not wait to hear the same.
          if (toAppError(reason).code === "unavailable") throw reason;
          return [{ refusal: reason }];
        });
        alone.push(outcome as Outcome);
      }
      return alone;
    }
  }

  async function carryOut(tx: Queries, jobs: Job[]): Promise<{ outcomes: Outcome[]; changed: string[] }> {
    const accountIds = await findAccounts(tx, jobs);
    const accounts = new Map((await lockAccounts(tx, [...new Set(accountIds.values())])).map((account) => [account.id, account]));
    const answered = new Map(
      (
        await findRequests(
          tx,
          jobs.map((job) => job.key.id),
        )
      ).map((row) => [row.id, row]),
    );
    const open = jobs.filter((job) => !answered.has(job.key.id));
    const books = await loadBooks(tx, open, accountIds, accounts);
    const batch = startBatch(books, now(), newId);
    const outcomes = jobs.map((job): Outcome => {
      try {
        const earlier = answered.get(job.key.id);
        if (earlier) return { response: answerOf(job.key, earlier) };
        const accountId = accountIds.get(job);
        const account = accountId === undefined ? undefined : accounts.get(accountId);
        if (!account) throw notFound(job);
        const response = batch.post(job, account);
        answered.set(job.key.id, { ...job.key, response, created_at: now() });
        return { response };
      } catch (error) {
        if (error instanceof AppError) return { refusal: error };
        throw error;
      }
    });
    const writes = batch.finish();
    if (writes.transactions.length > 0) await write(tx, writes);
    return { outcomes, changed: writes.accounts.map((account) => account.id) };
  }

  async function submit(job: Job): Promise<Uint8Array> {
    const outcome = await batcher.add(job);
    if ("refusal" in outcome) throw outcome.refusal;
    return outcome.response;
  }

  return {
    async charge(request, key, context) {
      const at = now();
      const serviceDate = request.serviceDate || toDate(at);
      if (!isDate(serviceDate)) throw invalidFields([{ path: "service_date", message: "is not a day of the calendar" }]);
      if (serviceDate > latestServiceDate(at)) throw invalidFields([{ path: "service_date", message: "must not be in the future" }]);
      return fromBinary(CreateChargeResponseSchema, await submit({ kind: "charge", request, serviceDate, key, context }));
    },
    async pay(request, key, context) {
      return fromBinary(RecordPaymentResponseSchema, await submit({ kind: "payment", request, key, context }));
    },
    async refund(request, key, context) {
      return fromBinary(RefundPaymentResponseSchema, await submit({ kind: "refund", request, key, context }));
    },
    async void(request, key, context) {
      return fromBinary(VoidChargeResponseSchema, await submit({ kind: "void", request, key, context }));
    },
  };
}

/** The account of each job; none where the charge or payment that it names does not exist. */
async function findAccounts(tx: Queries, jobs: Job[]): Promise<Map<Job, string>> {
  const chargeIds = jobs.flatMap((job) => (job.kind === "void" ? [job.request.chargeId] : []));
  const paymentIds = jobs.flatMap((job) => (job.kind === "refund" ? [job.request.paymentId] : []));
  const owners = chargeIds.length + paymentIds.length > 0 ? await findOwners(tx, chargeIds, paymentIds) : [];
  const ownerOf = new Map(owners.map((owner) => [owner.id, owner.account_id]));
  const found = new Map<Job, string>();
  for (const job of jobs) {
    const id =
      job.kind === "void"
        ? ownerOf.get(job.request.chargeId)
        : job.kind === "refund"
          ? ownerOf.get(job.request.paymentId)
          : job.request.accountId;
    if (id !== undefined) found.set(job, id);
  }
  return found;
}

function notFound(job: Job): AppError {
  const what = job.kind === "void" ? "charge" : job.kind === "refund" ? "payment" : "billing account";
  const reason = job.kind === "void" ? "CHARGE_NOT_FOUND" : job.kind === "refund" ? "PAYMENT_NOT_FOUND" : "ACCOUNT_NOT_FOUND";
  return new AppError("not_found", `There is no such ${what}.`, { reason });
}

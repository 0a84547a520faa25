/**
 * Charges, payments, refunds, reallocations and voids. Requests that arrive while a transaction runs are carried out
 * together in the next one: under load, one batch pays once for locks, round trips and commit, and a busy account gets
 * few transactions instead of a queue of them (docs/decisions/0010-billing-batches.md).
 */
import { fromBinary } from "@bufbuild/protobuf";
import { insertAuditEntries } from "@pm/kit/audit/audit";
import { createBatcher } from "@pm/kit/batcher";
import { isDate } from "@pm/kit/calendar";
import { AppError, invalidFields, toAppError } from "@pm/kit/errors";
import { inTransaction, type Queries } from "@pm/kit/postgres/transaction";
import type { RequestContext } from "@pm/kit/request-context";
import {
  type CreateChargeResponse,
  CreateChargeResponseSchema,
  type ReallocatePaymentResponse,
  ReallocatePaymentResponseSchema,
  type RecordPaymentResponse,
  RecordPaymentResponseSchema,
  type RefundPaymentResponse,
  RefundPaymentResponseSchema,
  type VoidChargeResponse,
  VoidChargeResponseSchema,
} from "@pm/proto/billing/v1/billing";
import { lockAccounts } from "../accounts/store.ts";
import { latestDay, today } from "../dates.ts";
import { answerTo, type RequestKey, repeatedRead, retries } from "../idempotency/idempotency.ts";
import { findRequests } from "../idempotency/store.ts";
import type { BillingDatabase } from "../tables.ts";
import { finishBatch, loadBatch } from "./batch.ts";
import {
  type NewCharge,
  type NewPayment,
  type NewReallocation,
  type NewRefund,
  type NewVoid,
  type PostingRequest,
  targetNotFound,
  targetsOf,
  withTaxInside,
} from "./posting-request.ts";
import { postRequest, TooManyAllocations } from "./recording.ts";
import { findOwners, write } from "./store.ts";

export type Ledger = {
  /** An empty day of a service or a payment means today in the clinic's zone. */
  charge(request: NewCharge, key: RequestKey, context: RequestContext): Promise<CreateChargeResponse>;
  pay(request: NewPayment, key: RequestKey, context: RequestContext): Promise<RecordPaymentResponse>;
  reallocate(request: NewReallocation, key: RequestKey, context: RequestContext): Promise<ReallocatePaymentResponse>;
  refund(request: NewRefund, key: RequestKey, context: RequestContext): Promise<RefundPaymentResponse>;
  void(request: NewVoid, key: RequestKey, context: RequestContext): Promise<VoidChargeResponse>;
};

type LedgerOptions = {
  db: BillingDatabase;
  now: () => Date;
  clinicTimeZone: string;
  newId: () => string;
  /** Called after a batch was committed, with the accounts that it has changed. */
  committed: (accountIds: string[]) => void;
};

type Outcome = { answer: Uint8Array } | { refusal: unknown };

const maxBatch = 64;
const maxInFlight = 2;

export function createLedger(options: LedgerOptions): Ledger {
  const run = (requests: PostingRequest[]) => runBatch(options, requests);
  const batcher = createBatcher({ name: "postings", run, maxSize: maxBatch, maxInFlight });

  async function submit(request: PostingRequest): Promise<Uint8Array> {
    const outcome = await batcher.add(request);
    if ("refusal" in outcome) throw outcome.refusal;
    return outcome.answer;
  }

  return {
    async charge(given, key, context) {
      const request = withTaxInside({ ...given, serviceDate: dayOf(given.serviceDate, "service_date", options) });
      return fromBinary(CreateChargeResponseSchema, await submit({ kind: "charge", request, key, context }));
    },
    async pay(given, key, context) {
      const request = { ...given, paymentDate: dayOf(given.paymentDate, "payment_date", options) };
      return fromBinary(RecordPaymentResponseSchema, await submit({ kind: "payment", request, key, context }));
    },
    async reallocate(request, key, context) {
      return fromBinary(ReallocatePaymentResponseSchema, await submit({ kind: "reallocation", request, key, context }));
    },
    async refund(request, key, context) {
      return fromBinary(RefundPaymentResponseSchema, await submit({ kind: "refund", request, key, context }));
    },
    async void(request, key, context) {
      return fromBinary(VoidChargeResponseSchema, await submit({ kind: "void", request, key, context }));
    },
  };
}

function dayOf(given: string, path: string, { now, clinicTimeZone }: LedgerOptions): string {
  const at = now();
  const day = given || today(at, clinicTimeZone);
  // Postgres has no day before the year 1.
  if (!isDate(day) || day < "0001-01-01") throw invalidFields([{ path, message: "is not a day of the calendar" }]);
  if (day > latestDay(at, clinicTimeZone)) throw invalidFields([{ path, message: "must not be in the future" }]);
  return day;
}

async function runBatch(options: LedgerOptions, requests: PostingRequest[]): Promise<Outcome[]> {
  const { db, committed } = options;
  try {
    const { outcomes, changed } = await inTransaction(db, (tx) => carryOut(tx, options, requests), retries);
    if (changed.length > 0) committed(changed);
    return outcomes;
  } catch (error) {
    if (requests.length === 1) throw error;
    // Any of them may be the cause, so each is carried out alone and gets its own answer.
    const alone: Outcome[] = [];
    for (const request of requests) {
      const [outcome] = await runBatch(options, [request]).catch((reason: unknown): Outcome[] => {
        // Without a database, the others would fail in the same way, only later.
        if (toAppError(reason).code === "unavailable") throw reason;
        return [{ refusal: reason }];
      });
      alone.push(outcome as Outcome);
    }
    return alone;
  }
}

async function carryOut(
  tx: Queries,
  { now, newId, clinicTimeZone }: LedgerOptions,
  requests: PostingRequest[],
): Promise<{ outcomes: Outcome[]; changed: string[] }> {
  const accountIds = await findAccounts(tx, requests);
  const locked = await lockAccounts(tx, [...new Set(accountIds.values())]);
  const accounts = new Map(locked.map((account) => [account.id, account]));
  const requestIds = requests.map((request) => request.key.id);
  const answered = new Map((await findRequests(tx, requestIds)).map((row) => [row.id, row]));
  const open = requests.filter((request) => !answered.has(request.key.id));
  const batch = await loadBatch(tx, open, accountIds, accounts);
  const outcomes = requests.map((request): Outcome => {
    try {
      const earlier = answered.get(request.key.id);
      const account = accounts.get(accountIds.get(request) ?? "");
      if (earlier) {
        const answer = answerTo(request.key, earlier);
        batch.writes.audit.push(repeatedRead(request.key, account?.id ?? request.key.id, request.context));
        return { answer };
      }
      if (!account) throw targetNotFound(request);
      const answer = postRequest(batch, request, account, { now: now(), newId, clinicTimeZone });
      // The same request may be in a batch twice.
      answered.set(request.key.id, { ...request.key, response: answer, created_at: now(), subject: account.id });
      return { answer };
    } catch (error) {
      if (error instanceof AppError && (requests.length === 1 || !(error instanceof TooManyAllocations))) return { refusal: error };
      throw error;
    }
  });
  const writes = finishBatch(batch);
  if (writes.transactions.length > 0) await write(tx, writes);
  else await insertAuditEntries(tx, writes.audit);
  return { outcomes, changed: writes.accounts.map((account) => account.id) };
}

/** The account of each request, except of those whose charge or payment does not exist. */
async function findAccounts(tx: Queries, requests: PostingRequest[]): Promise<Map<PostingRequest, string>> {
  const { chargeIds, paymentIds } = targetsOf(requests);
  const owners = chargeIds.length + paymentIds.length > 0 ? await findOwners(tx, chargeIds, paymentIds) : [];
  const ownerOf = new Map(owners.map((owner) => [owner.id, owner.account_id]));
  const accountOf = ({ kind, request }: PostingRequest): string | undefined => {
    if (kind === "void") return ownerOf.get(request.chargeId);
    if (kind === "refund" || kind === "reallocation") return ownerOf.get(request.paymentId);
    return request.accountId;
  };
  const found = new Map<PostingRequest, string>();
  for (const request of requests) {
    const id = accountOf(request);
    if (id !== undefined) found.set(request, id);
  }
  return found;
}

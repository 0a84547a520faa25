/**
 * Erases what identifies a patient in billing, when patient-service asks for it. Amounts, numbers and dates stay: they
 * are the clinic's books.
 */
import { create } from "@bufbuild/protobuf";
import { timestampFromDate } from "@bufbuild/protobuf/wkt";
import { insertOutboxEvents } from "@pm/kit/kafka/outbox";
import { inTransaction, type Queries } from "@pm/kit/postgres/transaction";
import type { RequestContext } from "@pm/kit/request-context";
import {
  type ErasePartyRequest,
  type ErasePartyResponse,
  ErasePartyResponseSchema,
  type ErasureHolds,
  ErasureHoldsSchema,
  type RestrictPartyRequest,
} from "@pm/proto/billing/v1/internal";
import { toMoney } from "../accounts/messages.ts";
import { findAccount, lockAccounts, updateAccount } from "../accounts/store.ts";
import { later, today } from "../dates.ts";
import { toOutboxEvent } from "../events.ts";
import { retries } from "../idempotency/idempotency.ts";
import type { BillingDatabase, Row } from "../tables.ts";
import { eraseParty, findErasure, findHeld, restrictAccount } from "./store.ts";

export type Erasure = {
  /** What must be kept of a patient's account; undefined if nothing. */
  holds(patientId: string): Promise<ErasureHolds | undefined>;
  /** Lets only administrators read the names and free texts of a patient's account. A repeated call changes nothing. */
  restrict(request: RestrictPartyRequest, context: RequestContext): Promise<void>;
  /**
   * Erases the names and free texts of a patient's account, or says what must be kept. A repeated call changes nothing.
   */
  erase(request: ErasePartyRequest, context: RequestContext): Promise<ErasePartyResponse>;
};

type Options = {
  db: BillingDatabase;
  retentionYears: number;
  now: () => Date;
  clinicTimeZone: string;
  /** Called after events were committed, with the accounts that have changed for those who watch them. */
  committed: (accountIds: string[]) => void;
};

export function createErasure({ db, retentionYears, now, clinicTimeZone, committed }: Options): Erasure {
  async function holdsOf(queries: Queries, patientId: string): Promise<ErasureHolds | undefined> {
    const account = await findHeld(queries, patientId, retentionYears, today(now(), clinicTimeZone));
    if (!account) return undefined;
    const { currency, receivable, credit, documents, until } = account;
    if (receivable === 0n && credit === 0n && documents === 0) return undefined;
    return create(ErasureHoldsSchema, {
      ...(receivable > 0n && { outstanding: toMoney(receivable, currency) }),
      ...(credit > 0n && { credit: toMoney(credit, currency) }),
      invoiceCount: documents,
      keepUntilDate: until ?? "",
    });
  }

  /** The account of somebody who is erased is closed for ever, so that nobody can bill it. */
  async function close(tx: Queries, account: Row<"accounts">, context: RequestContext): Promise<void> {
    if (account.status === "CLOSED") return;
    const at = later(now(), account.updated_at);
    const details = { changed: ["status"], from: account.status, to: "CLOSED" };
    await updateAccount(tx, account.id, { ...account, status: "CLOSED" }, { now: at, context, details });
    const event = { case: "accountStatusChanged", value: { status: "CLOSED" } } as const;
    await insertOutboxEvents(tx, [toOutboxEvent(account, event, { at, traceparent: context.traceparent })]);
  }

  return {
    holds: (patientId) => holdsOf(db, patientId),

    async restrict(request, context) {
      const accountId = await restrictAccount(db, request, { now: now(), context });
      if (accountId !== undefined) committed([accountId]);
    },

    async erase({ patientId, erasureId }, context) {
      const { answer, accountId } = await inTransaction(
        db,
        async (tx) => {
          const done = await findErasure(tx, patientId);
          if (done) return { answer: toAnswer(done), accountId: undefined };
          const found = await findAccount(tx, { patientId });
          // Whoever changes anything that belongs to the account waits for this lock.
          const [account] = found ? await lockAccounts(tx, [found.id]) : [];
          const holds = await holdsOf(tx, patientId);
          if (holds) return { answer: create(ErasePartyResponseSchema, { holds }), accountId: undefined };
          if (account) await close(tx, account, context);
          await eraseParty(tx, patientId, erasureId);
          const erased = await findErasure(tx, patientId);
          if (!erased) throw new Error("the erasure was not noted");
          return { answer: toAnswer(erased), accountId: account?.id };
        },
        retries,
      );
      if (accountId !== undefined) committed([accountId]);
      return answer;
    },
  };
}

function toAnswer({ erased_at, erased }: Row<"erasures">): ErasePartyResponse {
  const counts = Object.fromEntries(Object.entries(erased).map(([what, rows]) => [what, BigInt(rows)]));
  return create(ErasePartyResponseSchema, { eraseTime: timestampFromDate(erased_at), erased: counts });
}

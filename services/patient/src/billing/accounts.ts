/**
 * Every patient ends with exactly one billing account. Whoever creates a patient asks billing at once, together with others
 * that are created at the same time, and waits a moment; what does not succeed then, the worker completes. No database
 * connection is held while billing is asked, and a breaker keeps a billing that is down or frozen from slowing creates.
 */
import { setTimeout as delay, setImmediate as turn } from "node:timers/promises";
import { Code, ConnectError, createClient } from "@connectrpc/connect";
import { createGrpcTransport } from "@connectrpc/connect-node";
import { createBatcher } from "@pm/kit/batcher";
import type { Lifecycle } from "@pm/kit/lifecycle";
import type { Logger } from "@pm/kit/log";
import { traceparentFrom } from "@pm/kit/metrics";
import { BillingService } from "@pm/proto/billing/v1/billing";
import type { PatientDatabase } from "../patients/store.ts";
import { type Breaker, createBreaker } from "./circuit-breaker.ts";
import { type Account, leasePending, type PendingPatient, postponePending, releasePending, saveAccounts } from "./store.ts";

/** How long the answer of a create waits for its account. */
const patienceMs = 300;
/** How long the next patients wait for a call to billing that is under way: as long as it usually takes. */
const lingerMs = 5;
/** How long the worker leaves a new patient to whoever created it. Longer than a call's deadline. */
export const headStartMs = 5_000;
const deadlineMs = 1_000;
const workerDeadlineMs = 5_000;
const workerPauseMs = 1_000;
const pauseWhileImportingMs = 5_000;
const workerBatch = 500;
const leaseSeconds = 20;

/** Whom billing is asked for; all of one call. `token` is the person's, where one person acts. */
type Request = { patient: PendingPatient; token: string | undefined; traceparent: string };

export type BillingAccounts = {
  /** Opens an account and gives its id, or undefined where that takes too long or fails: then the worker does it. Never rejects. */
  open(request: Request): Promise<string | undefined>;
  /** Resolves when the accounts that were just asked for are open, if not yet stored here, or after a moment. Never rejects. */
  settled(): Promise<void>;
};

/** Asks billing for accounts: one call for all, ids in the order of the patients. */
export type AskBilling = (
  patients: PendingPatient[],
  options: { timeoutMs: number; token: string | undefined; traceparent: string },
) => Promise<string[]>;

export function createAskBilling(options: { billingUrl: string; serviceToken: () => Promise<string> }): AskBilling {
  const client = createClient(BillingService, createGrpcTransport({ baseUrl: options.billingUrl }));
  return async (patients, { timeoutMs, token, traceparent }) => {
    const headers = {
      authorization: `Bearer ${await options.serviceToken()}`,
      traceparent,
      ...(token && { "x-on-behalf-of": `Bearer ${token}` }),
    };
    // Without a request's id: a patient has one account, so whoever asks again for the same patient gets the same.
    const requests = patients.map(({ patientId, name, email }) => ({ patientId, name, email }));
    const { accounts } = await client.batchCreateBillingAccounts({ requests }, { headers, timeoutMs });
    if (accounts.length !== patients.length)
      throw new ConnectError(`billing gave ${accounts.length} accounts for ${patients.length} patients`, Code.Internal);
    return accounts.map((account) => account.accountId);
  };
}

/** Billing understood and said no: asking again without a change gives the same answer. */
function isRefusal(error: unknown): boolean {
  const refusals = [Code.InvalidArgument, Code.AlreadyExists, Code.FailedPrecondition, Code.OutOfRange];
  return error instanceof ConnectError && refusals.includes(error.code);
}

/** What a promise gives, or undefined where that takes longer. */
function within<T>(milliseconds: number, promise: Promise<T>): Promise<T | undefined> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<undefined>((resolve) => {
    timer = setTimeout(resolve, milliseconds, undefined);
  });
  return Promise.race([promise, late]).finally(() => clearTimeout(timer));
}

export function createBillingAccounts(options: {
  db: PatientDatabase;
  ask: AskBilling;
  log: Logger;
  breaker?: Breaker;
}): BillingAccounts & { startWorker(lifecycle: Lifecycle, isImporting?: () => boolean): void } {
  const { db, ask, log, breaker = createBreaker({ log, name: "billing" }) } = options;

  async function openAccounts(patients: PendingPatient[], how: Parameters<AskBilling>[1]): Promise<Account[]> {
    try {
      const ids = await ask(patients, how);
      breaker.succeeded();
      return patients.map(({ patientId }, index) => ({ patientId, accountId: ids[index] ?? "" }));
    } catch (error) {
      // A refusal is an answer too.
      if (isRefusal(error)) breaker.succeeded();
      else breaker.failed(error);
      throw error;
    }
  }

  const opener = createBatcher<Request, Account | undefined>({
    maxSize: 100,
    async run(requests) {
      if (!breaker.isClosed()) return requests.map(() => undefined);
      const [first] = requests;
      // A call for several people is made in this service's name alone.
      const token = requests.every((request) => request.token === first?.token) ? first?.token : undefined;
      const how = { timeoutMs: deadlineMs, token, traceparent: first?.traceparent ?? traceparentFrom(undefined) };
      return openAccounts(
        requests.map((request) => request.patient),
        how,
      );
    },
  });
  // Apart from the opening, so that the next patients are written while the accounts of these are stored.
  const saver = createBatcher<Account, void>({
    maxSize: 100,
    async run(accounts) {
      await saveAccounts(db, accounts);
      return accounts.map(() => undefined);
    },
  });

  async function openOne(request: Request): Promise<string | undefined> {
    const account = await opener.add(request);
    if (account) await saver.add(account);
    return account?.accountId;
  }

  /** Opens the accounts of one lease; gives how many patients it found. */
  async function completePending(): Promise<number> {
    if (!breaker.mayTry()) return 0;
    let pending: PendingPatient[] = [];
    const how = { timeoutMs: workerDeadlineMs, token: undefined, traceparent: traceparentFrom(undefined) };
    try {
      pending = await leasePending(db, workerBatch, leaseSeconds);
      if (pending.length > 0) await saveAccounts(db, await openAccounts(pending, how));
      else breaker.notTried();
      return pending.length;
    } catch (error) {
      if (pending.length === 0) {
        breaker.notTried();
        throw error;
      }
      if (!isRefusal(error)) {
        await releasePending(
          db,
          pending.map((patient) => patient.patientId),
        );
        return 0;
      }
    }
    // One of them is refused, and the others must not wait for it: one by one.
    for (const patient of pending) {
      try {
        await saveAccounts(db, await openAccounts([patient], how));
      } catch (error) {
        log.error({ err: error, patientId: patient.patientId }, "billing refused to open an account");
        await postponePending(db, patient.patientId);
      }
    }
    return pending.length;
  }

  return {
    async open(request) {
      // A call that has been under way for longer than anybody waits says that nobody should wait behind it.
      if (!breaker.isClosed() || opener.runningMs() > patienceMs) return undefined;
      return within(
        patienceMs,
        openOne(request).catch(() => undefined),
      );
    },
    async settled() {
      // Whoever was just created asks within this turn of the event loop.
      await turn();
      await within(lingerMs, opener.idle());
    },
    startWorker(lifecycle, isImporting = () => false) {
      const stop = new AbortController();
      const work = async () => {
        while (!stop.signal.aborted) {
          const found = await completePending().catch((error: unknown) => {
            log.warn({ err: error }, "pending billing accounts could not be looked for; trying again");
            return 0;
          });
          // Accounts of an import cost several times what its patients do, and nobody waits for them: most of them come after it.
          const pauseMs = isImporting() ? pauseWhileImportingMs : found < workerBatch ? workerPauseMs : 0;
          if (pauseMs > 0) await delay(pauseMs * (0.75 + Math.random() / 2), undefined, { signal: stop.signal }).catch(() => undefined);
        }
      };
      const working = work();
      lifecycle.onClose("billing worker", () => {
        stop.abort();
        return working;
      });
    },
  };
}

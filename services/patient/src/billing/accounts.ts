/**
 * Every patient ends with exactly one billing account. A create asks billing at once, together with other creates of
 * the same moment, and waits for a short while. What does not succeed then, the worker completes. No database
 * connection is held meanwhile, and a circuit breaker keeps a billing that is down or frozen from slowing creates.
 */
import { setTimeout as delay } from "node:timers/promises";
import { Code, ConnectError, createClient } from "@connectrpc/connect";
import { createBatcher } from "@pm/kit/batcher";
import type { Lifecycle } from "@pm/kit/lifecycle";
import type { Logger } from "@pm/kit/log";
import { transportTo } from "@pm/kit/rpc/client";
import { parseTraceparent, traceparentFrom } from "@pm/kit/telemetry/trace-context";
import { inSpanOfMany } from "@pm/kit/telemetry/tracing";
import { within } from "@pm/kit/within";
import { BillingService } from "@pm/proto/billing/v1/billing";
import { BrokenCircuitError } from "cockatiel";
import type { PatientDatabase } from "../database.ts";
import { type CircuitBreaker, createCircuitBreaker } from "./circuit-breaker.ts";
import { type Account, hasPending, leasePending, type PendingPatient, postponePending, releasePending, saveAccounts } from "./store.ts";

/** How long the answer of a create waits for its account. */
const patienceMs = 300;
/** How long the worker leaves a new patient to the request that created it. Longer than a call's deadline. */
export const headStartMs = 5_000;
const deadlineMs = 1_000;
const workerDeadlineMs = 5_000;
const workerPauseMs = 1_000;
const pauseWhileImportingMs = 5_000;
const workerBatch = 500;
const leaseSeconds = 20;

/** A patient who needs an account. `token` is that of the person who acts. */
type Request = { patient: PendingPatient; token: string | undefined; traceparent: string };

export type BillingAccounts = {
  /** Opens an account. Gives its id; undefined if that fails or is slow; then the worker does it. Never rejects. */
  open(request: Request): Promise<string | undefined>;
};

/** Asks billing for accounts: one call for all, ids in the order of the patients. */
export type AskBilling = (
  patients: PendingPatient[],
  options: { timeoutMs: number; token: string | undefined; traceparent: string },
) => Promise<string[]>;

export function createAskBilling(options: { billingUrl: string; serviceToken: () => Promise<string> }): AskBilling {
  const client = createClient(BillingService, transportTo(options.billingUrl));
  return async (patients, { timeoutMs, token, traceparent }) => {
    try {
      const headers = {
        authorization: `Bearer ${await options.serviceToken()}`,
        traceparent,
        ...(token && { "x-on-behalf-of": `Bearer ${token}` }),
      };
      // Without a request id: a patient has one account, so asking again for the same patient gives the same account.
      const requests = patients.map(({ patientId, name, email }) => ({ patientId, name, ...(email && { email }) }));
      const { accounts } = await client.batchCreateBillingAccounts({ requests }, { headers, timeoutMs });
      if (accounts.length !== patients.length)
        throw new ConnectError(`billing gave ${accounts.length} accounts for ${patients.length} patients`, Code.Internal);
      return accounts.map((account) => account.accountId);
    } catch (error) {
      // Without a token of its own this service cannot ask either.
      throw ConnectError.from(error, Code.Unavailable);
    }
  };
}

const refusals = [Code.InvalidArgument, Code.AlreadyExists, Code.FailedPrecondition, Code.OutOfRange];

/** Billing understood the request and refuses it: asking again without a change gives the same answer. */
const isRefusal = (error: unknown): boolean => error instanceof ConnectError && refusals.includes(error.code);

/** Billing does not work. An error of our own database says nothing about billing. */
const isFailure = (error: unknown): boolean => error instanceof ConnectError && !isRefusal(error);

type Options = { db: PatientDatabase; ask: AskBilling; log: Logger };

export function createBillingAccounts({ db, ask, log }: Options) {
  const breaker = createCircuitBreaker({ log, target: "billing", isFailure });
  return { ...createOpening({ db, ask, breaker }), startWorker: createWorker({ db, ask, log, breaker }) };
}

/**
 * Opens accounts, all of them or, after an error, none. Only if billing refuses them and some patients have no e-mail,
 * the accounts of the others are opened: the billing of the version before knows no account without e-mail.
 */
async function openAccounts(ask: AskBilling, patients: PendingPatient[], how: Parameters<AskBilling>[1]): Promise<Account[]> {
  try {
    const ids = await ask(patients, how);
    return patients.map(({ patientId }, index) => ({ patientId, accountId: ids[index] ?? "" }));
  } catch (error) {
    const others = patients.filter(({ email }) => email);
    if (!isRefusal(error) || others.length === 0 || others.length === patients.length) throw error;
    return openAccounts(ask, others, how);
  }
}

/** Opens the accounts of patients who are being created. */
function createOpening({ db, ask, breaker }: Omit<Options, "log"> & { breaker: CircuitBreaker }): BillingAccounts {
  const opener = createBatcher<Request, Account | undefined>({
    name: "billing_accounts",
    maxSize: 100,
    async run(requests) {
      if (!breaker.isClosed()) return requests.map(() => undefined);
      const [first] = requests;
      // A call for several people is made in this service's name alone.
      const token = requests.every((request) => request.token === first?.token) ? first?.token : undefined;
      const how = { timeoutMs: deadlineMs, token, traceparent: first?.traceparent ?? traceparentFrom(undefined) };
      const patients = requests.map((request) => request.patient);
      const accounts = await breaker.call(() => openAccounts(ask, patients, how));
      const byPatient = new Map(accounts.map((account) => [account.patientId, account]));
      return patients.map(({ patientId }) => byPatient.get(patientId));
    },
  });
  // Apart from the opening, so that the next patients are written while the accounts of these are stored.
  const saver = createBatcher<Account, void>({
    name: "billing_account_ids",
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

  return {
    async open(request) {
      // If the call under way takes longer than a create waits, nobody waits behind it.
      if (!breaker.isClosed() || opener.runningMs() > patienceMs) return undefined;
      return within(
        patienceMs,
        openOne(request).catch(() => undefined),
      );
    },
  };
}

/**
 * What the worker does belongs to the trace of a request that created one of the patients, and links to all of them.
 */
function linked<Result>(pending: PendingPatient[], work: () => Promise<Result>): Promise<Result> {
  const carried = pending.map(({ traceparent }) => parseTraceparent(traceparent));
  return inSpanOfMany("job billing_accounts", { attributes: { "batch.size": pending.length }, carried }, work);
}

/** Opens the accounts that are still missing, for as long as the service runs. */
function createWorker({ db, ask, log, breaker }: Options & { breaker: CircuitBreaker }) {
  /** Opens the accounts of one lease. Gives how many patients it found. */
  async function completePending(): Promise<number> {
    // While billing is down, an empty queue is no reason to believe that it works again.
    if (!breaker.isClosed() && !(await hasPending(db))) return 0;
    const how = { timeoutMs: workerDeadlineMs, token: undefined, traceparent: traceparentFrom(undefined) };
    let pending: PendingPatient[] = [];
    try {
      const accounts = await breaker.call(async () => {
        pending = await leasePending(db, workerBatch, leaseSeconds);
        return pending.length > 0 ? linked(pending, () => openAccounts(ask, pending, how)) : [];
      });
      if (accounts.length > 0) await saveAccounts(db, accounts);
      const opened = new Set(accounts.map(({ patientId }) => patientId));
      if (opened.size < pending.length) {
        const refused = pending.filter(({ patientId }) => !opened.has(patientId));
        await completeEach(refused, how);
      }
    } catch (error) {
      if (error instanceof BrokenCircuitError) return 0;
      if (pending.length === 0) throw error;
      if (isRefusal(error)) return completeEach(pending, how);
      const ids = pending.map((patient) => patient.patientId);
      await releasePending(db, ids);
      return 0;
    }
    return pending.length;
  }

  /** Billing refuses one of them, and the others must not wait for it: asks for each by itself. */
  async function completeEach(pending: PendingPatient[], how: Parameters<AskBilling>[1]): Promise<number> {
    for (const patient of pending) {
      try {
        await saveAccounts(db, await breaker.call(() => linked([patient], () => openAccounts(ask, [patient], how))));
      } catch (error) {
        log.error({ err: error, patientId: patient.patientId }, "billing refused to open an account");
        await postponePending(db, patient.patientId);
      }
    }
    return pending.length;
  }

  return (lifecycle: Lifecycle, isImporting: () => boolean = () => false): void => {
    const stop = new AbortController();
    const work = async () => {
      while (!stop.signal.aborted) {
        const found = await completePending().catch((error: unknown) => {
          log.warn({ err: error }, "pending billing accounts could not be looked for; trying again");
          return 0;
        });
        // The accounts of an import cost several times what its patients do. Nobody waits: most are opened later.
        const pauseMs = isImporting() ? pauseWhileImportingMs : found < workerBatch ? workerPauseMs : 0;
        if (pauseMs > 0) await delay(pauseMs * (0.75 + Math.random() / 2), undefined, { signal: stop.signal }).catch(() => undefined);
      }
    };
    const working = work();
    lifecycle.onClose("billing worker", () => {
      stop.abort();
      return working;
    });
  };
}

/**
 * Every patient has one account, and every account has a patient. Events and retries keep it so. Reconciliation finds
 * exceptions (a restored backup, a manual change in the database), reports them and repairs them.
 */
import { randomUUID } from "node:crypto";
import { create } from "@bufbuild/protobuf";
import { expectFindings, showFindings } from "@pm/kit/checks";
import type { Lifecycle } from "@pm/kit/lifecycle";
import type { Logger } from "@pm/kit/log";
import type { DatabaseSettings } from "@pm/kit/postgres/database";
import { runAsLeader } from "@pm/kit/postgres/leader";
import type { RequestContext } from "@pm/kit/request-context";
import { BillingAccountStatus, BillingService } from "@pm/proto/billing/v1/billing";
import type { Pool } from "pg";
import type { Accounts } from "../accounts/accounts.ts";
import { type AccountOfPatient, accountsOfPatients } from "../accounts/store.ts";
import { requestKey } from "../idempotency/idempotency.ts";
import type { Patients } from "../patient-client.ts";
import type { BillingDatabase } from "../tables.ts";

type ReconciliationReport = {
  patients: number;
  accounts: number;
  /** Patients without an account. Those for whom patient-service is about to open one are left out. */
  patientsWithoutAccount: string[];
  /** Accounts whose patient does not exist in patient-service. */
  accountsWithoutPatient: string[];
  /** How many of them could be charged before this run suspended any. */
  activeWithoutPatient: number;
  /** How many accounts were opened or suspended. */
  repaired: number;
};

type Reconciliation = {
  /** @param options.maxSuspended if more accounts have no patient, none is suspended; no limit by default */
  run(options: { repair: boolean; maxSuspended?: number }): Promise<ReconciliationReport>;
};

type ReconciliationOptions = {
  db: BillingDatabase;
  accounts: Accounts;
  patients: Patients;
  now: () => Date;
  log: Logger;
};

/** The patient of a younger account may have been registered after the page of patients was read. */
const graceMs = 5 * 60_000;

/** Patients who are looked up at once. One statement of patient-service reads them, and one opens their accounts. */
const patientsAtOnce = 100;

export function createReconciliation(options: ReconciliationOptions): Reconciliation {
  const { db, patients, now, log } = options;
  return {
    /** @throws AppError unavailable if patient-service does not answer. It can be run again at any time. */
    async run({ repair, maxSuspended = Number.POSITIVE_INFINITY }) {
      const context = { actorId: "service:billing", requestId: `reconciliation-${randomUUID()}`, traceparent: "" };
      const oldEnough = new Date(now().getTime() - graceMs);
      const { missing, orphans, ...counts } = await compare(db, patients, oldEnough);
      const withoutAccount = await openMissing(options, missing, repair ? context : undefined);
      const toSuspend = orphans.filter(({ status }) => status === "ACTIVE");
      const isTooMany = toSuspend.length > maxSuspended;
      if (repair && isTooMany)
        log.error({ accounts: toSuspend.length, maxSuspended }, "too many accounts have no patient; run reconcile.ts to suspend them all");
      const suspended = repair && !isTooMany ? toSuspend : [];
      for (const { id } of suspended) await suspend(options.accounts, id, context);
      const repaired = (repair ? withoutAccount.length : 0) + suspended.length;
      const found = { patientsWithoutAccount: withoutAccount.length, accountsWithoutPatient: orphans.length };
      log.info({ ...counts, repaired, ...found }, "reconciled patients and accounts");
      return {
        ...counts,
        patientsWithoutAccount: withoutAccount,
        accountsWithoutPatient: orphans.map(({ id }) => id),
        activeWithoutPatient: toSuspend.length,
        repaired,
      };
    },
  };
}

/** Reads both lists side by side, in the order of the patient ids, a page of patients at a time. */
async function compare(db: BillingDatabase, patients: Patients, oldEnough: Date) {
  const counts = { patients: 0, accounts: 0 };
  const missing: string[] = [];
  const orphans: AccountOfPatient[] = [];
  let cursor: string | undefined;
  let after = "00000000-0000-0000-0000-000000000000";
  do {
    const page = await patients.ids(cursor);
    const isLast = page.nextCursor === undefined;
    const last = page.ids.at(-1) ?? after;
    const rows = await accountsOfPatients(db, after, isLast ? undefined : last);
    const [known, billed, opening] = [new Set(page.ids), new Set(rows.map((row) => row.patient_id)), new Set(page.opening)];
    counts.patients += page.ids.length;
    counts.accounts += rows.length;
    missing.push(...page.ids.filter((id) => !billed.has(id) && !opening.has(id)));
    orphans.push(...rows.filter((row) => !known.has(row.patient_id) && row.created_at < oldEnough));
    after = last;
    cursor = page.nextCursor;
  } while (cursor !== undefined);
  return { ...counts, missing, orphans };
}

/**
 * Opens the missing accounts if there is a context; without one it only looks. Gives the patients who need an account:
 * deleted patients do not. If patient-service has an account id for a patient, the lost account is opened under it.
 */
async function openMissing(
  { accounts, patients }: ReconciliationOptions,
  missing: string[],
  context: RequestContext | undefined,
): Promise<string[]> {
  const patientIds: string[] = [];
  for (let first = 0; first < missing.length; first += patientsAtOnce) {
    const ids = missing.slice(first, first + patientsAtOnce);
    const found = await Promise.all(ids.map((patientId) => patients.find(patientId)));
    const requests = found.flatMap((patient, index) =>
      patient ? [{ patientId: ids[index] as string, ...patient, requestId: "", currencyCode: "" }] : [],
    );
    patientIds.push(...requests.map(({ patientId }) => patientId));
    if (context && requests.length > 0) await accounts.openAll(requests, context);
  }
  return patientIds;
}

async function suspend(accounts: Accounts, accountId: string, context: RequestContext): Promise<void> {
  const method = BillingService.method.updateBillingAccount;
  const request = create(method.input, {
    account: { accountId, status: BillingAccountStatus.SUSPENDED },
    updateMask: { paths: ["status"] },
    requestId: randomUUID(),
  });
  await accounts.update(request, requestKey(method, request), context);
}

const firstAfterMs = 60_000;
/**
 * The most accounts that are suspended without an operator. After patient-service's database was restored to an earlier
 * day, there would be thousands, and the clinic could no longer charge them. Then an operator decides, by the command.
 */
const maxSuspended = 100;

/** Reconciles periodically, in one replica. The first time is not at the start: other services may be starting too. */
export function startReconciling(options: {
  reconciliation: Reconciliation;
  everyMs: number;
  settings: DatabaseSettings;
  pool: Pool;
  log: Logger;
  lifecycle: Lifecycle;
}): void {
  const { reconciliation, everyMs, ...rest } = options;
  let due = Date.now() + firstAfterMs;
  expectFindings(everyMs);
  runAsLeader({
    ...rest,
    name: "billing_reconciliation",
    pollMs: firstAfterMs,
    async step() {
      if (Date.now() < due) return "idle";
      const report = await reconciliation.run({ repair: true, maxSuspended });
      const { patientsWithoutAccount, activeWithoutPatient } = report;
      // What this run repaired is shown until the next one. Accounts that an earlier run suspended do not count.
      showFindings({ patient_without_account: patientsWithoutAccount.length, account_without_patient: activeWithoutPatient }, everyMs);
      due = Date.now() + everyMs;
      return "done";
    },
  });
}

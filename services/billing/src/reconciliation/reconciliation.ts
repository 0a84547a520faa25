/**
 * Every patient has one account and every account a patient. Events and retries keep it so; this finds where it is not so
 * nevertheless (a restored backup, a hand in the database), reports it, and repairs it.
 */
import { randomUUID } from "node:crypto";
import { create } from "@bufbuild/protobuf";
import type { Lifecycle } from "@pm/kit/lifecycle";
import type { Logger } from "@pm/kit/log";
import { Gauge, metrics } from "@pm/kit/metrics";
import type { DatabaseSettings, Statement } from "@pm/kit/postgres/database";
import { runAsLeader } from "@pm/kit/postgres/leader";
import { BillingAccountStatus, BillingService } from "@pm/proto/billing/v1/billing";
import type { Pool } from "pg";
import type { AccountRequest, Accounts } from "../accounts/accounts.ts";
import type { AccountStatus, BillingDatabase, Context } from "../accounts/store.ts";
import { requestKey } from "../idempotency.ts";
import type { Patients } from "../patient-client.ts";

export type ReconciliationReport = {
  patients: number;
  accounts: number;
  /** Patients without an account, but for those whose account patient-service is about to open. */
  patientsWithoutAccount: string[];
  /** Accounts whose patient patient-service does not know; nothing can be charged to them any more. */
  accountsWithoutPatient: string[];
  /** What was opened or suspended. */
  repaired: number;
};

export type Reconciliation = {
  /** @param options.maxSuspended accounts without a patient are suspended only where there are no more of them; without a bound where it is not said */
  run(options: { repair: boolean; maxSuspended?: number }): Promise<ReconciliationReport>;
};

/** Younger accounts may belong to patients who were registered after their page was read. */
const graceMs = 5 * 60_000;

/** They are asked for together, so that patient-service reads them by one statement, and get their accounts by another one. */
const patientsAtOnce = 100;

const accountsStatement: Statement = {
  name: "accounts_by_patient_range",
  text: `select id, patient_id, status, created_at from accounts
    where patient_id > $1 and ($2::uuid is null or patient_id <= $2) order by patient_id`,
};
type AccountOfPatient = { id: string; patient_id: string; status: AccountStatus; created_at: Date };

const findings = new Gauge({
  name: "reconciliation_findings",
  help: "What the last reconciliation of patients and accounts found",
  labelNames: ["kind"],
  registers: [metrics],
});

export function createReconciliation(options: {
  db: BillingDatabase;
  accounts: Accounts;
  patients: Patients;
  now: () => Date;
  log: Logger;
}): Reconciliation {
  const { db, accounts, patients, now, log } = options;

  return {
    /**
     * Walks through both lists, which are in the order of patient ids, a page of patients at a time.
     * @throws AppError unavailable where patient-service does not answer; running it again does no harm.
     */
    async run({ repair, maxSuspended = Number.POSITIVE_INFINITY }) {
      const report: ReconciliationReport = {
        patients: 0,
        accounts: 0,
        patientsWithoutAccount: [],
        accountsWithoutPatient: [],
        repaired: 0,
      };
      const oldEnough = new Date(now().getTime() - graceMs);
      const context: Context = { actor: { id: "service:billing", requestId: `reconciliation-${randomUUID()}` }, traceparent: "" };
      const missing: string[] = [];
      const orphans: AccountOfPatient[] = [];
      let cursor: string | undefined;
      let after = "00000000-0000-0000-0000-000000000000";
      do {
        const page = await patients.ids(cursor);
        const isLast = page.nextCursor === undefined;
        const last = page.ids.at(-1) ?? after;
        const rows = await db.query<AccountOfPatient>(accountsStatement, [after, isLast ? null : last]);
        const [known, billed, opening] = [new Set(page.ids), new Set(rows.map((row) => row.patient_id)), new Set(page.opening)];
        report.patients += page.ids.length;
        report.accounts += rows.length;
        missing.push(...page.ids.filter((id) => !billed.has(id) && !opening.has(id)));
        orphans.push(...rows.filter((row) => !known.has(row.patient_id) && row.created_at < oldEnough));
        after = last;
        cursor = page.nextCursor;
      } while (cursor !== undefined);
      report.accountsWithoutPatient = orphans.map((row) => row.id);
      for (let first = 0; first < missing.length; first += patientsAtOnce) {
        const found = await Promise.all(missing.slice(first, first + patientsAtOnce).map(find));
        // Of a deleted patient nothing is to be billed.
        const wanted = found.filter((patient) => patient !== undefined);
        report.patientsWithoutAccount.push(...wanted.map(({ patientId }) => patientId));
        if (!repair || wanted.length === 0) continue;
        await accounts.openAll(wanted, context);
        report.repaired += wanted.length;
      }
      const toSuspend = orphans.filter(({ status }) => status === "ACTIVE");
      const isTooMany = toSuspend.length > maxSuspended;
      if (repair && isTooMany)
        log.error({ accounts: toSuspend.length, maxSuspended }, "too many accounts have no patient; run reconcile.ts to suspend them all");
      for (const { id } of repair && !isTooMany ? toSuspend : []) {
        await suspend(id, context);
        report.repaired += 1;
      }
      findings.set({ kind: "patient_without_account" }, report.patientsWithoutAccount.length);
      findings.set({ kind: "account_without_patient" }, report.accountsWithoutPatient.length);
      const { patientsWithoutAccount, accountsWithoutPatient, ...counts } = report;
      const found = { patientsWithoutAccount: patientsWithoutAccount.length, accountsWithoutPatient: accountsWithoutPatient.length };
      log.info({ ...counts, ...found }, "reconciled patients and accounts");
      return report;
    },
  };

  /** Under the id that patient-service has noted, if it has one: an account that was lost comes back as the one that is known. */
  async function find(patientId: string): Promise<AccountRequest | undefined> {
    const patient = await patients.find(patientId);
    return patient && { patientId, ...patient, requestId: "", currencyCode: "" };
  }

  async function suspend(accountId: string, context: Context): Promise<void> {
    const method = BillingService.method.updateBillingAccount;
    const request = create(method.input, {
      account: { accountId, status: BillingAccountStatus.SUSPENDED },
      updateMask: { paths: ["status"] },
      requestId: randomUUID(),
    });
    await accounts.update(request, requestKey(method, request), context);
  }
}

const firstAfterMs = 60_000;
/**
 * How many accounts are suspended with nobody looking. When patient-service's database was set back to an earlier day, thousands
 * would be, and no clinic could charge anything: then a person decides, by the command.
 */
const maxSuspended = 100;

/** Reconciles again and again, in one process of all replicas; not at once, because the services of a platform start together. */
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
  runAsLeader({
    ...rest,
    name: "billing_reconciliation",
    pollMs: firstAfterMs,
    async step() {
      if (Date.now() < due) return "done";
      await reconciliation.run({ repair: true, maxSuspended });
      due = Date.now() + everyMs;
      return "done";
    },
  });
}

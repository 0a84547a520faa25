/** Compares what is counted here with what the services that own the data have. */
import { setTimeout as delay } from "node:timers/promises";
import { AppError, toAppError } from "@pm/kit/errors";
import type { DeadLetters } from "@pm/kit/kafka/dead-letters";
import { fetchTraced } from "@pm/kit/telemetry/calls";
import { z } from "zod";
import { spanOf } from "../calendar.ts";
import { readFreshness, unmatchedPatients } from "../ingest/store.ts";
import { agingBuckets, measures, patientFlows } from "../measures.ts";
import { type AsOf, asOfFrom } from "../reports/reports.ts";
import { moneyIn } from "../rollups/money.ts";
import { createRollupQueries } from "../rollups/query.ts";
import { type AnalyticsDatabase, type Stream, streams } from "../tables.ts";

type Check = { name: string; here: string; there: string; holds: boolean };
type Unmatched = { count: number; ids: string[] };
type ConsistencyReport = {
  asOf: AsOf;
  drift: number;
  settled: boolean;
  checks: Check[];
  patientsWithoutAccount: Unmatched;
  accountsWithoutPatient: Unmatched;
  deadLetters: number;
  lag: number | null;
};

export type Consistency = {
  /**
   * Compares at a moment at which both sides stand still: no event waits to be published or to be counted, and the
   * other services have the same numbers before and after. If there is no such moment within `patienceMs`, it compares
   * anyway, and `settled` is false.
   * @throws AppError unavailable if a service or the database does not answer for that long
   */
  check(patienceMs?: number): Promise<ConsistencyReport>;
};

/** Releases before the setting had the days of UTC. */
const timeZone = z.string().default("UTC");
const patientTotals = z.object({
  timeZone,
  active: z.int(),
  /** With those that were merged into another one. */
  deleted: z.int(),
  /** Undefined before records could be merged. */
  merged: z.int().optional(),
  withAccount: z.int(),
  withoutAccount: z.int(),
  pendingEvents: z.int().default(0),
});
const digits = z.string().regex(/^-?\d+$/);
const billingTotals = z.object({
  timeZone,
  accounts: z.object({ active: z.int(), suspended: z.int(), closed: z.int() }),
  transactions: z.int(),
  pendingEvents: z.int(),
  currencies: z.array(
    z.object({
      currencyCode: z.string(),
      charged: digits,
      voided: digits,
      // A billing of an earlier release has none of them.
      discounted: digits.default("0"),
      credited: digits.default("0"),
      writtenOff: digits.default("0"),
      paid: digits,
      refunded: digits,
      outstanding: digits,
      credit: digits,
    }),
  ),
});
/** What the services that own the data have. */
type Owners = { patient: z.infer<typeof patientTotals>; billing: z.infer<typeof billingTotals> };

/** How many ids of unmatched patients and accounts a report has at most. */
export const maxIds = 20;

/** Where every partition of the topics begins and ends, by `<topic>/<partition>`. */
type Offsets = Map<string, { low: bigint; high: bigint }>;

type OwnerAddresses = {
  patientUrl: string;
  billingUrl: string;
  /** This service's own token, with the scope internal:totals. */
  serviceToken: () => Promise<string>;
};

export function createConsistency(
  options: OwnerAddresses & {
    db: AnalyticsDatabase;
    clinicTimeZone: string;
    deadLetters: Pick<DeadLetters, "waiting">;
    offsets: () => Promise<Offsets>;
  },
): Consistency {
  const { db, deadLetters, offsets } = options;
  const compare = createComparison(options);

  /** Compares once. `settled` says whether both sides stood still meanwhile. */
  async function look(before: Owners | undefined) {
    const owners = before ?? (await askOwners(options));
    const lag = await lagOf(db, offsets);
    const here = await compare(owners);
    const after = await askOwners(options);
    const isQuiet = after.patient.pendingEvents === 0 && after.billing.pendingEvents === 0 && lag === 0;
    const settled = isQuiet && JSON.stringify(after) === JSON.stringify(owners);
    return { here: { ...here, drift: here.checks.filter(({ holds }) => !holds).length }, settled, lag, after };
  }

  /** The newest ids for a count. The search reads the whole log, so it is left out for a count of 0. */
  async function withIds(count: number, present: Stream, missing: Stream): Promise<Unmatched> {
    const limit = Math.min(count, maxIds);
    return { count, ids: limit > 0 ? await unmatchedPatients(db, present, missing, limit) : [] };
  }

  return {
    async check(patienceMs = 3_000) {
      const deadline = Date.now() + patienceMs;
      const isLate = () => Date.now() > deadline;
      let owners: Owners | undefined;
      for (;;) {
        const found = await look(owners).catch((error: unknown) => {
          if (isLate() || toAppError(error).code !== "unavailable") throw error;
        });
        // A difference may be an event on its way between services. It is reported only when time is up.
        if (found && ((found.settled && found.here.drift === 0) || isLate())) {
          const { here, settled, lag } = found;
          return {
            ...here,
            settled,
            patientsWithoutAccount: await withIds(here.patientsWithoutAccount, "patient.v1", "billing.v1"),
            accountsWithoutPatient: await withIds(here.accountsWithoutPatient, "billing.v1", "patient.v1"),
            deadLetters: await deadLetters.waiting(),
            lag,
          };
        }
        owners = found?.after;
        await delay(250);
      }
    },
  };
}

async function askOwners({ patientUrl, billingUrl, serviceToken }: OwnerAddresses): Promise<Owners> {
  async function ask<T>(url: string, schema: z.ZodType<T>): Promise<T> {
    try {
      const headers = { authorization: `Bearer ${await serviceToken()}` };
      const response = await fetchTraced(new URL(url).pathname, url, { headers, signal: AbortSignal.timeout(5_000) });
      if (!response.ok) throw new Error(`it answered ${response.status}`);
      return schema.parse(await response.json());
    } catch (cause) {
      throw new AppError("unavailable", `${new URL(url).pathname.slice(1)} cannot be read. Try again shortly.`, {
        cause,
        retryAfterSeconds: 1,
      });
    }
  }
  const [patient, billing] = await Promise.all([
    ask(`${patientUrl}/patients:totals`, patientTotals),
    ask(`${billingUrl}/billing:totals`, billingTotals),
  ]);
  return { patient, billing };
}

/** How many events in Kafka are not counted yet; null if Kafka does not answer. */
async function lagOf(db: AnalyticsDatabase, offsets: () => Promise<Offsets>): Promise<number | null> {
  const ends = await offsets().catch(() => undefined);
  if (!ends) return null;
  const { watermarks } = await readFreshness(db);
  const read = new Map(watermarks.map(({ topic, partition, nextOffset }) => [`${topic}/${partition}`, nextOffset]));
  return [...ends].reduce((sum, [place, { low, high }]) => sum + Math.max(0, Number(high - (read.get(place) ?? low))), 0);
}

type Comparison = { checks: Check[]; patientsWithoutAccount: number; accountsWithoutPatient: number; asOf: AsOf };

type ComparisonOptions = { db: AnalyticsDatabase; clinicTimeZone: string };

function createComparison({ db, clinicTimeZone }: ComparisonOptions): (owners: Owners) => Promise<Comparison> {
  const queryOf = createRollupQueries(db);
  const { charged, voided, discounted, credited, writtenOff, collected, refunded, credit } = measures.billing;
  const { status } = measures.accounts;
  const { patientsWithoutAccount, accountsWithoutPatient } = measures.consistency;
  const open = agingBuckets.map(({ measure }) => measure);
  const end = spanOf("2200-01-01", "2200-01-01", "UTC");

  return async ({ patient, billing }) => {
    const freshness = await readFreshness(db);
    const rollups = queryOf(freshness.generation);
    const [patients, ledger, now] = await Promise.all([
      rollups.before(
        patientFlows.map(({ measure }) => measure),
        end,
      ),
      rollups.before([charged, voided, discounted, credited, writtenOff, collected, refunded, credit, ...open], end),
      rollups.now([status, patientsWithoutAccount, accountsWithoutPatient]),
    ]);
    const money = (currency: string, ...of: string[]) => of.reduce((sum, measure) => sum + moneyIn([ledger], measure, currency), 0n);
    // Over all values, because earlier releases kept one for each patient.
    const unmatched = (measure: string) => now.counts(measure).reduce((sum, [, count]) => sum + count, 0);
    const active = patientFlows.reduce((sum, { measure, sign }) => sum + sign * patients.of(measure), 0n);
    return {
      asOf: asOfFrom(freshness, streams),
      checks: [
        check("time zone of patient", clinicTimeZone, patient.timeZone),
        check("time zone of billing", clinicTimeZone, billing.timeZone),
        check("patients", patients.of(measures.patients.registered), patient.active + patient.deleted),
        check("active patients", active, patient.active),
        ...(patient.merged === undefined
          ? []
          : [check("merged patients", patients.of(measures.patients.merged) - patients.of(measures.patients.unmerged), patient.merged)]),
        check("patients without account", unmatched(patientsWithoutAccount), patient.withoutAccount),
        check("active accounts", now.of(status, "ACTIVE"), billing.accounts.active),
        check("suspended accounts", now.of(status, "SUSPENDED"), billing.accounts.suspended),
        check("closed accounts", now.of(status, "CLOSED"), billing.accounts.closed),
        ...billing.currencies.flatMap(({ currencyCode: currency, ...there }) => [
          check(`${currency} charged`, money(currency, charged), there.charged),
          check(`${currency} voided`, money(currency, voided), there.voided),
          check(`${currency} discounted`, money(currency, discounted), there.discounted),
          check(`${currency} credited`, money(currency, credited), there.credited),
          check(`${currency} written off`, money(currency, writtenOff), there.writtenOff),
          check(`${currency} collected`, money(currency, collected), there.paid),
          check(`${currency} refunded`, money(currency, refunded), there.refunded),
          check(`${currency} outstanding`, money(currency, ...open), there.outstanding),
          check(`${currency} credit`, money(currency, credit), there.credit),
        ]),
      ],
      patientsWithoutAccount: unmatched(patientsWithoutAccount),
      accountsWithoutPatient: unmatched(accountsWithoutPatient),
    };
  };
}

function check(name: string, here: number | bigint | string, there: number | string): Check {
  return { name, here: String(here), there: String(there), holds: String(here) === String(there) };
}

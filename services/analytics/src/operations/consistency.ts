/** Compares what is counted here with what the services that own it say. */
import { setTimeout as delay } from "node:timers/promises";
import { AppError, toAppError } from "@pm/kit/errors";
import type { DeadLetters } from "@pm/kit/kafka/dead-letters";
import { z } from "zod";
import { spanOf } from "../calendar.ts";
import { flows } from "../ingest/patient-record.ts";
import { type AsOf, asOfFrom } from "../reports/reports.ts";
import { moneyIn } from "../rollups/money.ts";
import { createSumsOf } from "../rollups/query.ts";
import { type AnalyticsDatabase, readFreshness, unmatchedSubjects } from "../rollups/store.ts";
import { type Stream, streams } from "../rollups/types.ts";

export type Check = { name: string; here: string; there: string; holds: boolean };
export type Unmatched = { count: number; ids: string[] };
export type ConsistencyReport = {
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
   * Compares at a moment at which both sides stand still: nothing waits to be published, nothing to be counted, and the
   * owners say before and after the same. Where no such moment comes within `patienceMs`, it compares all the same and says so.
   * @throws AppError unavailable where a service or the database does not answer for as long.
   */
  check(patienceMs?: number): Promise<ConsistencyReport>;
};

const patientTotals = z.object({
  active: z.int(),
  deleted: z.int(),
  withAccount: z.int(),
  withoutAccount: z.int(),
  pendingEvents: z.int().default(0),
});
const digits = z.string().regex(/^-?\d+$/);
const billingTotals = z.object({
  accounts: z.object({ active: z.int(), suspended: z.int(), closed: z.int() }),
  transactions: z.int(),
  pendingEvents: z.int(),
  currencies: z.array(
    z.object({
      currencyCode: z.string(),
      charged: digits,
      voided: digits,
      paid: digits,
      refunded: digits,
      outstanding: digits,
      credit: digits,
    }),
  ),
});
type Owners = { patient: z.infer<typeof patientTotals>; billing: z.infer<typeof billingTotals> };
type Here = { checks: Check[]; patientsWithoutAccount: number; accountsWithoutPatient: number; asOf: AsOf };

/** How many of those that are not matched are named. */
export const maxNamed = 20;

export function createConsistency(options: {
  database: AnalyticsDatabase;
  deadLetters: Pick<DeadLetters, "waiting">;
  patientUrl: string;
  billingUrl: string;
  /** This service's own token, with the scope internal:totals. */
  serviceToken: () => Promise<string>;
  /** Where every partition of the topics begins and ends, by `<topic>/<partition>`. */
  offsets: () => Promise<Map<string, { low: bigint; high: bigint }>>;
}): Consistency {
  const { database, deadLetters, patientUrl, billingUrl, serviceToken, offsets } = options;
  const sumsOf = createSumsOf(database);

  async function ask<T>(url: string, schema: z.ZodType<T>): Promise<T> {
    try {
      const headers = { authorization: `Bearer ${await serviceToken()}` };
      const response = await fetch(url, { headers, signal: AbortSignal.timeout(5_000) });
      if (!response.ok) throw new Error(`it answered ${response.status}`);
      return schema.parse(await response.json());
    } catch (cause) {
      throw new AppError("unavailable", `${new URL(url).pathname.slice(1)} cannot be read. Try again shortly.`, {
        cause,
        retryAfterSeconds: 1,
      });
    }
  }

  async function askOwners(): Promise<Owners> {
    const [patient, billing] = await Promise.all([
      ask(`${patientUrl}/patients:totals`, patientTotals),
      ask(`${billingUrl}/billing:totals`, billingTotals),
    ]);
    return { patient, billing };
  }

  /** Events in Kafka that are not counted; null where Kafka does not answer. */
  async function lagNow(): Promise<number | null> {
    const ends = await offsets().catch(() => undefined);
    if (!ends) return null;
    const { watermarks } = await readFreshness(database);
    const read = new Map(watermarks.map(({ topic, partition, nextOffset }) => [`${topic}/${partition}`, nextOffset]));
    return [...ends].reduce((sum, [place, { low, high }]) => sum + Math.max(0, Number(high - (read.get(place) ?? low))), 0);
  }

  async function compare({ patient, billing }: Owners): Promise<Here> {
    const freshness = await readFreshness(database);
    const sums = sumsOf(freshness.generation);
    const end = spanOf("2200-01-01", "2200-01-01", "UTC");
    const money = ["billing.charged", "billing.voided", "billing.collected", "billing.refunded", "billing.credit", "accounts.opened"];
    const open = ["billing.open.0-30", "billing.open.31-60", "billing.open.61-90", "billing.open.90+"];
    const [patients, ledger, now] = await Promise.all([
      sums.before(Object.keys(flows), end),
      sums.before([...money, ...open], end),
      sums.now(["accounts.status", "consistency.patientsWithoutAccount", "consistency.accountsWithoutPatient"]),
    ]);
    // Over all values: the release before kept one for each patient.
    const held = (measure: string) => now.counts(measure).reduce((sum, [, count]) => sum + count, 0);
    const patientsWithoutAccount = held("consistency.patientsWithoutAccount");
    const active = Object.entries(flows).reduce((sum, [flow, sign]) => sum + sign * patients.of(flow), 0n);
    const check = (name: string, here: number | bigint, there: number | string): Check => ({
      name,
      here: String(here),
      there: String(there),
      holds: String(here) === String(there),
    });
    const byCurrency = billing.currencies.flatMap(({ currencyCode: currency, charged, voided, paid, refunded, outstanding, credit }) => [
      check(`${currency} charged`, moneyIn([ledger], "billing.charged", currency), charged),
      check(`${currency} voided`, moneyIn([ledger], "billing.voided", currency), voided),
      check(`${currency} collected`, moneyIn([ledger], "billing.collected", currency), paid),
      check(`${currency} refunded`, moneyIn([ledger], "billing.refunded", currency), refunded),
      check(
        `${currency} outstanding`,
        open.reduce((sum, measure) => sum + moneyIn([ledger], measure, currency), 0n),
        outstanding,
      ),
      check(`${currency} credit`, moneyIn([ledger], "billing.credit", currency), credit),
    ]);
    return {
      asOf: asOfFrom(freshness, streams),
      checks: [
        check("patients", patients.of("patients.registered"), patient.active + patient.deleted),
        check("active patients", active, patient.active),
        check("patients without account", patientsWithoutAccount, patient.withoutAccount),
        check("active accounts", now.of("accounts.status", "ACTIVE"), billing.accounts.active),
        check("suspended accounts", now.of("accounts.status", "SUSPENDED"), billing.accounts.suspended),
        check("closed accounts", now.of("accounts.status", "CLOSED"), billing.accounts.closed),
        ...byCurrency,
      ],
      patientsWithoutAccount,
      accountsWithoutPatient: held("consistency.accountsWithoutPatient"),
    };
  }

  /** Names the latest of so many patients. Where there are none, nobody looks: it takes a walk through the log. */
  async function name(count: number, told: Stream, silent: Stream): Promise<Unmatched> {
    const limit = Math.min(count, maxNamed);
    return { count, ids: limit > 0 ? await unmatchedSubjects(database, told, silent, limit) : [] };
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
        // A difference is believed only when nothing is under way, and then once more: an event may be between two hands.
        if (found && ((found.settled && found.here.drift === 0) || isLate())) {
          const { here, settled, lag } = found;
          return {
            ...here,
            settled,
            patientsWithoutAccount: await name(here.patientsWithoutAccount, "patient.v1", "billing.v1"),
            accountsWithoutPatient: await name(here.accountsWithoutPatient, "billing.v1", "patient.v1"),
            deadLetters: await deadLetters.waiting(),
            lag,
          };
        }
        owners = found?.after;
        await delay(250);
      }
    },
  };

  /** What is counted here beside what the owners said before, and whether they say the same after. */
  async function look(before: Owners | undefined) {
    const owners = before ?? (await askOwners());
    const lag = await lagNow();
    const compared = await compare(owners);
    const after = await askOwners();
    const quiet = after.patient.pendingEvents === 0 && after.billing.pendingEvents === 0 && lag === 0;
    const settled = quiet && JSON.stringify(after) === JSON.stringify(owners);
    return { here: { ...compared, drift: compared.checks.filter(({ holds }) => !holds).length }, settled, lag, after };
  }
}

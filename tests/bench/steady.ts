/** Creates at a steady rate for a minute: whether the outbox keeps up, and how late answers are. */
import { randomUUID } from "node:crypto";
import { setTimeout as delay } from "node:timers/promises";
import { personAt } from "../seed/people.ts";
import type { BenchContext, Rows } from "./context.ts";
import { percentile, type Row, rateOf } from "./measure.ts";

/** The rate to hold, as a share of what sixteen callers reach that send one create after the other. */
const wantedShare = 0.9;
const callers = 64;
const trialSeconds = 10;
const maxLagSeconds = 0.5;

const say = (line: string) => process.stdout.write(`${line}\n`);

/** What the service reports about its outbox: events that wait, and how long events waited, in cumulative buckets. */
type Outbox = { pending: number; lag: { bound: number; count: number }[] };

async function readOutbox({ platform, http }: BenchContext): Promise<Outbox> {
  const metrics = await http(platform.services.patient.url, "GET", "/metrics", { anonymous: true });
  const lag = [...metrics.matchAll(/^outbox_lag_seconds_bucket\{le="([^"]+)"\} (\d+)/gm)].map(([, bound, count]) => ({
    bound: bound === "+Inf" ? Number.POSITIVE_INFINITY : Number(bound),
    count: Number(count),
  }));
  return { pending: Number(/^outbox_pending (\d+)/m.exec(metrics)?.[1]), lag };
}

/** The number of events sent between two readings, and the bound below which 99 % of them waited. */
function lagBetween(before: Outbox, now: Outbox): { events: number; p99Seconds: number } {
  const counts = now.lag.map(({ bound, count }, index) => ({ bound, count: count - (before.lag[index]?.count ?? 0) }));
  const events = counts.at(-1)?.count ?? 0;
  return { events, p99Seconds: counts.find(({ count }) => count >= 0.99 * events)?.bound ?? Number.POSITIVE_INFINITY };
}

/** Creates patients at the times that a rate sets, however long others take. */
function createPacer({ platform, http }: BenchContext) {
  const run = randomUUID().slice(0, 8);
  let rate = 1;
  let nextAt: number | undefined;
  let created = 0;
  const create = async () => {
    const number = created++;
    const body = { ...personAt(number, 1_000_000).record, email: `${run}-${number}@example.com` };
    return http(platform.services.patient.url, "POST", "/patients", { body, status: 201 });
  };
  return {
    create,
    rate: () => rate,
    start(perSecond: number): void {
      rate = perSecond;
      nextAt = undefined;
    },
    /** Returns how long after its time the create was answered, in ms. */
    async createInTime(): Promise<number> {
      const now = performance.now();
      nextAt ??= now;
      const at = nextAt;
      nextAt += 1_000 / rate;
      await delay(Math.max(0, at - now));
      await create();
      return performance.now() - at;
    },
  };
}

export const rows: Rows = async (context) => {
  const pacer = createPacer(context);
  let wanted = Number.NaN;
  let before: Outbox | undefined;

  /** Some seconds at a rate: whether creates were answered as fast as sent, and events left as fast as they came. */
  async function holds(perSecond: number): Promise<boolean> {
    pacer.start(perSecond);
    const start = await readOutbox(context);
    const end = performance.now() + trialSeconds * 1_000;
    const times: number[] = [];
    const loop = async () => {
      while (performance.now() < end) times.push(await pacer.createInTime());
    };
    await Promise.all(Array.from({ length: callers }, loop));
    const now = await readOutbox(context);
    const { p99Seconds } = lagBetween(start, now);
    const answered = times.length / trialSeconds;
    const late = percentile(times, 0.99).toFixed(0);
    say(`${perSecond} creates/s: ${answered.toFixed(0)}/s answered, p99 ${late} ms, lag p99 <= ${p99Seconds} s, ${now.pending} pending`);
    return answered >= 0.99 * perSecond && p99Seconds <= maxLagSeconds && now.pending < perSecond;
  }

  const row: Row = {
    name: "create patient, at a steady rate for a minute",
    concurrency: callers,
    seconds: 60,
    async prepare() {
      const closedLoop = await rateOf({ name: "create patient", request: pacer.create });
      wanted = Math.round(wantedShare * closedLoop);
      for (const share of [1, 0.85, 0.7, 0.55, 0.4]) if (await holds(Math.round(share * wanted))) break;
      pacer.start(pacer.rate());
      before = await readOutbox(context);
    },
    request: pacer.createInTime,
    async after({ perSecond }) {
      const now = await readOutbox(context);
      if (!before) return ["the outbox was not read before"];
      const { events, p99Seconds } = lagBetween(before, now);
      say(
        `outbox at ${pacer.rate()} creates/s: ${events} events, lag p99 <= ${p99Seconds} s, ${now.pending} pending (${before.pending} before)`,
      );
      return [
        ...(perSecond < 0.99 * wanted ? [`${perSecond.toFixed(0)}/s < ${wanted}, ${wantedShare} of a closed loop`] : []),
        ...(p99Seconds > maxLagSeconds ? [`lag p99 ${p99Seconds} s > ${maxLagSeconds}`] : []),
        ...(now.pending > pacer.rate() ? [`${now.pending} events pending`] : []),
      ];
    },
  };
  return [row];
};

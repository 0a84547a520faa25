/**
 * Measures rows: a closed loop of workers, latencies by percentile, and the CPU time of every process of the platform.
 *
 * An aim is a multiple of a baseline: work that is not ours, such as one bare insert. Row and baseline take turns, so
 * both see the same machine in the same minute, and a slow machine slows both. Absolute figures are information.
 */
import { cpuSeconds, type Processes } from "./processes.ts";

export type Work = {
  /** The name in the table and in the JSON. Unique. */
  name: string;
  /** Requests in flight. 16 by default; a baseline takes its row's. */
  concurrency?: number;
  /** Things that one request does, such as the rows of a file. Rates and CPU times are per thing. 1 by default. */
  things?: number;
  /** Runs once before the work. */
  prepare?: () => Promise<void>;
  /** One request. Throws if its answer is wrong. A number that it returns replaces its latency in ms. */
  request: (worker: number, iteration: number) => Promise<unknown>;
};

export type Row = Work & {
  /** Seconds to measure, 8 by default, in all turns together. 0 measures a single request, without warm-up. */
  seconds?: number;
  /** Seconds to warm up, 4 by default: until V8 has compiled what the row runs. */
  warmUpSeconds?: number;
  /** How often row and baseline take turns, 3 by default. The baseline has the first and the last turn. */
  turns?: number;
  baseline?: Work;
  aims?: Aims;
  /** Runs once after the row and returns everything else that did not hold. */
  after?: (figures: Figures) => string[] | Promise<string[]>;
};

/** Bounds as multiples of the baseline's figure. */
type Aims = { maxCpu?: number; minRate?: number; maxP99?: number };

type Figures = {
  concurrency: number;
  requests: number;
  perSecond: number;
  p50Ms: number;
  p95Ms: number;
  p99Ms: number;
  /**
   * CPU milliseconds per thing of all processes of the platform. This process, the load generator, is not one of them.
   */
  cpuMs: number;
  cpuMsBy: Record<string, number>;
};

/** A figure as a multiple of the baseline's, and the bound for it. */
export type Comparison = { what: "CPU" | "rate" | "p99"; times: number; bound: number; holds: boolean };

export type Result = Figures & {
  name: string;
  baseline: (Figures & { name: string }) | undefined;
  comparisons: Comparison[];
  /** Everything that did not hold. */
  missed: string[];
};

const defaultConcurrency = 16;
/** The beginning of a turn is not counted: the platform has still to digest the turn before, such as its events. */
const leadSeconds = 0.5;
const baselineSeconds = 1;

export async function measure(row: Row, processes: Processes): Promise<Result> {
  const { seconds = 8, warmUpSeconds = 4, baseline } = row;
  const turns = baseline && seconds > 0 ? (row.turns ?? 3) : 1;
  await baseline?.prepare?.();
  await row.prepare?.();
  const rowTally = createTally(row, row.concurrency ?? defaultConcurrency, processes);
  const baselineTally = baseline && createTally(baseline, baseline.concurrency ?? row.concurrency ?? defaultConcurrency, processes);
  if (seconds > 0) await rowTally.warmUp(warmUpSeconds);
  for (let turn = 0; turn < turns; turn++) {
    await baselineTally?.takeTurn(leadSeconds, baselineSeconds);
    await rowTally.takeTurn(seconds > 0 ? leadSeconds : 0, seconds / turns);
  }
  await baselineTally?.takeTurn(leadSeconds, baselineSeconds);
  const figures = rowTally.figures();
  const comparisons = baselineTally ? compare(figures, baselineTally.figures(), row.aims ?? {}) : [];
  const missed = comparisons.filter(({ holds }) => !holds).map((comparison) => describe(comparison));
  return {
    name: row.name,
    ...figures,
    baseline: baseline && baselineTally && { name: baseline.name, ...baselineTally.figures() },
    comparisons,
    missed: [...missed, ...((await row.after?.(figures)) ?? [])],
  };
}

/** How much of some work is done per second just now, after a warm-up. */
export async function rateOf(work: Work): Promise<number> {
  const tally = createTally(work, defaultConcurrency, {});
  await tally.takeTurn(4, 4);
  return tally.figures().perSecond;
}

/** Such as `CPU 13.4 × (at most 15)`. */
export const describe = ({ what, times, bound }: Comparison): string =>
  `${what} ${times.toFixed(2)} × (${what === "rate" ? "at least" : "at most"} ${bound})`;

function createTally(work: Work, concurrency: number, processes: Processes) {
  const latencies: number[] = [];
  const spent: Record<string, number> = {};
  let elapsed = 0;
  let iteration = 0;
  /** Each worker sends at least one request. */
  const run = async (seconds: number): Promise<number[]> => {
    const taken: number[] = [];
    const end = performance.now() + seconds * 1_000;
    const loop = async (worker: number): Promise<void> => {
      do {
        const started = performance.now();
        const answer = await work.request(worker, iteration++);
        taken.push(typeof answer === "number" ? answer : performance.now() - started);
      } while (performance.now() < end);
    };
    await Promise.all(Array.from({ length: concurrency }, (_, worker) => loop(worker)));
    return taken;
  };
  return {
    warmUp: run,
    async takeTurn(lead: number, seconds: number): Promise<void> {
      if (lead > 0) await run(lead);
      const before = cpuSeconds(processes);
      const started = performance.now();
      latencies.push(...(await run(seconds)));
      elapsed += (performance.now() - started) / 1_000;
      for (const [name, after] of Object.entries(cpuSeconds(processes))) spent[name] = (spent[name] ?? 0) + after - (before[name] ?? 0);
    },
    figures(): Figures {
      const done = latencies.length * (work.things ?? 1);
      const cpuMsBy = Object.fromEntries(Object.entries(spent).map(([name, cpu]) => [name, (cpu * 1_000) / done]));
      return {
        concurrency,
        requests: latencies.length,
        perSecond: done / elapsed,
        p50Ms: percentile(latencies, 0.5),
        p95Ms: percentile(latencies, 0.95),
        p99Ms: percentile(latencies, 0.99),
        cpuMs: Object.values(cpuMsBy).reduce((sum, each) => sum + each, 0),
        cpuMsBy,
      };
    },
  };
}

function compare(row: Figures, baseline: Figures, { maxCpu, minRate, maxP99 }: Aims): Comparison[] {
  const atMost = (what: Comparison["what"], times: number, bound: number | undefined): Comparison[] =>
    bound === undefined ? [] : [{ what, times, bound, holds: times <= bound }];
  const rate = row.perSecond / baseline.perSecond;
  return [
    ...atMost("CPU", row.cpuMs / baseline.cpuMs, maxCpu),
    ...(minRate === undefined ? [] : [{ what: "rate" as const, times: rate, bound: minRate, holds: rate >= minRate }]),
    ...atMost("p99", row.p99Ms / baseline.p99Ms, maxP99),
  ];
}

/** The value below which this share of the values lies. */
export function percentile(values: number[], share: number): number {
  const sorted = values.toSorted((a, b) => a - b);
  return sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * share))] ?? Number.NaN;
}

/** A Markdown table of results, each row above its baseline. */
export function toTable(results: Result[]): string {
  const line = (name: string, figures: Figures, comparisons: string) => {
    const { concurrency, perSecond, p50Ms, p95Ms, p99Ms, cpuMs, cpuMsBy } = figures;
    const by = Object.entries(cpuMsBy)
      .filter(([, milliseconds]) => milliseconds >= 0.005)
      .sort(([, a], [, b]) => b - a)
      .map(([process, milliseconds]) => `${process} ${milliseconds.toFixed(2)}`);
    const latencies = [p50Ms, p95Ms, p99Ms].map((milliseconds) => milliseconds.toFixed(1));
    return `| ${[name, concurrency, perSecond.toFixed(0), ...latencies, cpuMs.toFixed(2), by.join(", "), comparisons].join(" | ")} |`;
  };
  return [
    "| row | in flight | per second | p50 ms | p95 ms | p99 ms | CPU ms | of it | times the baseline |",
    "|---|---|---|---|---|---|---|---|---|",
    ...results.flatMap(({ name, baseline, comparisons, ...figures }) => [
      line(name, figures, comparisons.map(describe).join(", ")),
      ...(baseline ? [line(`– ${baseline.name}`, baseline, "")] : []),
    ]),
  ].join("\n");
}

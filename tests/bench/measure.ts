/**
 * Measuring: a closed loop of workers against one address, latencies by percentile, and what every process of the platform
 * spent on it, from /proc. CPU time per request is what to compare: the wall clock of a shared machine is noise.
 */
import { readdirSync, readFileSync } from "node:fs";

/** One row of the bench. `request` does one request and throws where the answer is not what it should be. */
export type Row = {
  /** Unique; what the table and the JSON call it. */
  name: string;
  /** Requests in flight; 16 where it is not said. */
  concurrency?: number;
  /** Seconds to measure; 8 where it is not said, 60 at most. */
  seconds?: number;
  /** Seconds to warm up, 4 where it is not said: until V8 has compiled what every process of the row's way runs. */
  warmUpSeconds?: number;
  /** How many things one request does; rates and CPU time are told per thing. 1 where it is not said. */
  things?: number;
  /** Runs once before the row. */
  prepare?: () => Promise<void>;
  /** A number that it gives is its latency in ms, where it waited for its turn before. */
  request: (worker: number, iteration: number) => Promise<unknown>;
  /** Runs before each of six slices of the row, not counted: what the row is compared with is then measured on the same machine in the same minute. */
  between?: () => Promise<void>;
  /** Runs once after the row; gives what else did not hold. */
  after?: () => string[] | Promise<string[]>;
  /** What has to hold for the row; the bench says so and exits 1 where it does not. */
  limits?: { cpuMs?: number; perSecond?: number; p99Ms?: number };
};

/** Processes by name, as pids of their roots; what they spawned counts with them. */
export type Processes = Record<string, () => number[]>;

export type Result = {
  name: string;
  concurrency: number;
  requests: number;
  perSecond: number;
  p50Ms: number;
  p95Ms: number;
  p99Ms: number;
  /** CPU milliseconds per request of all processes but this one, the load generator. */
  cpuMs: number;
  /** The same, per process. */
  cpuMsBy: Record<string, number>;
  /** Limits that did not hold. */
  missed: string[];
};

/** Clock ticks per second of /proc/<pid>/stat: 100 on every Linux that Node runs on. */
const ticksPerSecond = 100;

type Stat = { pid: number; parent: number; cpuSeconds: number };

function readStats(): Stat[] {
  return readdirSync("/proc")
    .filter((name) => /^\d+$/.test(name))
    .flatMap((pid) => {
      try {
        const text = readFileSync(`/proc/${pid}/stat`, "utf8");
        // The name in brackets may hold spaces; what follows it does not.
        const fields = text.slice(text.lastIndexOf(")") + 2).split(" ");
        const [parent, user, system, deadUser, deadSystem] = [1, 11, 12, 13, 14].map((index) => Number(fields[index])) as [
          number,
          number,
          number,
          number,
          number,
        ];
        return [{ pid: Number(pid), parent, cpuSeconds: (user + system + deadUser + deadSystem) / ticksPerSecond }];
      } catch {
        return [];
      }
    });
}

function withDescendants(roots: number[], stats: Stat[]): Stat[] {
  const wanted = new Set(roots);
  // Children have higher pids than their parents until pids wrap, so go on until nothing is added.
  for (let before = -1; before !== wanted.size; ) {
    before = wanted.size;
    for (const stat of stats) if (wanted.has(stat.parent)) wanted.add(stat.pid);
  }
  return stats.filter((stat) => wanted.has(stat.pid));
}

/** CPU seconds so far, per name. */
export function cpuSeconds(processes: Processes): Record<string, number> {
  const stats = readStats();
  return Object.fromEntries(
    Object.entries(processes).map(([name, pids]) => [name, withDescendants(pids(), stats).reduce((sum, stat) => sum + stat.cpuSeconds, 0)]),
  );
}

/** Resident memory in MiB, per name; shared pages are divided among those who share them (Pss). */
export function residentMiB(processes: Processes): Record<string, number> {
  const stats = readStats();
  const pss = (pid: number): number => {
    try {
      return Number(/^Pss:\s+(\d+)/m.exec(readFileSync(`/proc/${pid}/smaps_rollup`, "utf8"))?.[1] ?? 0) / 1_024;
    } catch {
      return 0;
    }
  };
  return Object.fromEntries(
    Object.entries(processes).map(([name, pids]) => [name, withDescendants(pids(), stats).reduce((sum, stat) => sum + pss(stat.pid), 0)]),
  );
}

export async function measure(row: Row, processes: Processes): Promise<Result> {
  const { name, concurrency = 16, warmUpSeconds = 4, seconds = 8, things = 1 } = row;
  await row.prepare?.();
  let iteration = 0;
  const run = async (milliseconds: number): Promise<number[]> => {
    const latencies: number[] = [];
    const end = performance.now() + milliseconds;
    const work = async (worker: number): Promise<void> => {
      while (performance.now() < end) {
        const started = performance.now();
        const told = await row.request(worker, iteration++);
        latencies.push(typeof told === "number" ? told : performance.now() - started);
      }
    };
    await Promise.all(Array.from({ length: concurrency }, (_, worker) => work(worker)));
    return latencies;
  };
  await run(warmUpSeconds * 1_000);
  const latencies: number[] = [];
  const spent = Object.fromEntries(Object.keys(processes).map((key) => [key, 0]));
  let elapsed = 0;
  const slices = row.between ? 6 : 1;
  for (let slice = 0; slice < slices; slice++) {
    await row.between?.();
    const before = cpuSeconds(processes);
    const started = performance.now();
    latencies.push(...(await run((Math.min(seconds, 60) * 1_000) / slices)));
    elapsed += (performance.now() - started) / 1_000;
    const after = cpuSeconds(processes);
    for (const key of Object.keys(spent)) spent[key] = (spent[key] ?? 0) + (after[key] ?? 0) - (before[key] ?? 0);
  }
  // Read now, because preparing or what ran between may have found out what the limit is.
  const { limits = {} } = row;
  latencies.sort((a, b) => a - b);
  const percentile = (share: number) => latencies[Math.min(latencies.length - 1, Math.floor(latencies.length * share))] ?? 0;
  const done = latencies.length * things;
  const cpuMsBy = Object.fromEntries(Object.entries(spent).map(([key, cpu]) => [key, (cpu * 1_000) / done]));
  const result = {
    name,
    concurrency,
    requests: latencies.length,
    perSecond: done / elapsed,
    p50Ms: percentile(0.5),
    p95Ms: percentile(0.95),
    p99Ms: percentile(0.99),
    cpuMs: Object.values(cpuMsBy).reduce((sum, each) => sum + each, 0),
    cpuMsBy,
  };
  const missed = [
    ...(limits.cpuMs !== undefined && result.cpuMs > limits.cpuMs ? [`CPU ${result.cpuMs.toFixed(2)} ms > ${limits.cpuMs}`] : []),
    ...(limits.perSecond !== undefined && result.perSecond < limits.perSecond
      ? [`${result.perSecond.toFixed(0)}/s < ${limits.perSecond}`]
      : []),
    ...(limits.p99Ms !== undefined && result.p99Ms > limits.p99Ms ? [`p99 ${result.p99Ms.toFixed(1)} ms > ${limits.p99Ms}`] : []),
    ...((await row.after?.()) ?? []),
  ];
  return { ...result, missed };
}

/** A Markdown table of results. */
export function toTable(results: Result[]): string {
  const lines = results.map((result) => {
    const by = Object.entries(result.cpuMsBy)
      .filter(([, milliseconds]) => milliseconds >= 0.005)
      .sort(([, a], [, b]) => b - a)
      .map(([process, milliseconds]) => `${process} ${milliseconds.toFixed(2)}`)
      .join(", ");
    const numbers = [
      result.concurrency,
      result.perSecond.toFixed(0),
      result.p50Ms.toFixed(1),
      result.p95Ms.toFixed(1),
      result.p99Ms.toFixed(1),
      result.cpuMs.toFixed(2),
    ];
    return `| ${result.name} | ${numbers.join(" | ")} | ${by} |`;
  });
  return [
    "| row | in flight | requests/s | p50 ms | p95 ms | p99 ms | CPU ms | of it |",
    "|---|---|---|---|---|---|---|---|",
    ...lines,
  ].join("\n");
}

/** The CPU time and the memory of the platform's processes, from /proc. */
import { readdirSync, readFileSync } from "node:fs";

/** Processes by name, each given by the pids of its roots. Their descendants count with them. */
export type Processes = Record<string, () => number[]>;

/** Clock ticks per second in /proc/<pid>/stat: 100 on every Linux that Node runs on. */
const ticksPerSecond = 100;

type Stat = { pid: number; parent: number; cpuSeconds: number };

/** CPU seconds so far, by name. */
export function cpuSeconds(processes: Processes): Record<string, number> {
  return sumByName(processes, (stat) => stat.cpuSeconds);
}

/** Resident memory in MiB, by name. Shared pages are divided among the processes that share them (Pss). */
export function residentMiB(processes: Processes): Record<string, number> {
  return sumByName(processes, ({ pid }) => {
    try {
      return Number(/^Pss:\s+(\d+)/m.exec(readFileSync(`/proc/${pid}/smaps_rollup`, "utf8"))?.[1] ?? 0) / 1_024;
    } catch {
      return 0;
    }
  });
}

function sumByName(processes: Processes, measure: (stat: Stat) => number): Record<string, number> {
  const stats = readStats();
  const sum = (pids: number[]) => withDescendants(pids, stats).reduce((total, stat) => total + measure(stat), 0);
  return Object.fromEntries(Object.entries(processes).map(([name, pids]) => [name, sum(pids())]));
}

function readStats(): Stat[] {
  return readdirSync("/proc")
    .filter((name) => /^\d+$/.test(name))
    .flatMap((pid) => {
      try {
        const text = readFileSync(`/proc/${pid}/stat`, "utf8");
        // The program's name stands in parentheses and may contain spaces. Read the fields behind it.
        const fields = text
          .slice(text.lastIndexOf(")") + 2)
          .split(" ")
          .map(Number);
        const [parent, ...times] = [1, 11, 12, 13, 14].map((index) => fields[index] ?? 0);
        const ticks = times.reduce((sum, each) => sum + each, 0);
        return [{ pid: Number(pid), parent: parent ?? 0, cpuSeconds: ticks / ticksPerSecond }];
      } catch {
        return [];
      }
    });
}

function withDescendants(roots: number[], stats: Stat[]): Stat[] {
  const wanted = new Set(roots);
  // A child usually has a higher pid than its parent, but not after pids wrap. So repeat until nothing is added.
  for (let before = -1; before !== wanted.size; ) {
    before = wanted.size;
    for (const stat of stats) if (wanted.has(stat.parent)) wanted.add(stat.pid);
  }
  return stats.filter((stat) => wanted.has(stat.pid));
}

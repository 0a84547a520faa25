import { execFileSync } from "node:child_process";
import { readdirSync, readFileSync } from "node:fs";
import { setTimeout as sleep } from "node:timers/promises";

/** Whether a process with that pid is there, ours or not. */
export function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return !isZombie(pid);
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === "EPERM";
  }
}

/** A process and everything that it started, itself first. */
export function withDescendants(pid: number): number[] {
  const parents = allParents();
  const found = [pid];
  for (const one of found) for (const [child, parent] of parents) if (parent === one) found.push(child);
  return found;
}

/** The process that started this one, or took it over. */
export const parentOf = (pid: number): number | undefined => allParents().get(pid);

/** The command line of a process, or an empty string where it is gone. */
export function commandLine(pid: number): string {
  try {
    if (process.platform === "linux") return readFileSync(`/proc/${pid}/cmdline`, "utf8").replaceAll("\0", " ");
    return execFileSync("ps", ["-o", "command=", "-p", String(pid)], { encoding: "utf8" });
  } catch {
    return "";
  }
}

/**
 * Stops a process that an earlier run left behind. `mark` has to occur in its command line: a pid file may be older
 * than the last reboot, and the number may belong to somebody else by now. Returns whether there was one.
 */
export async function stopOrphan(pid: number, mark: string, signal: NodeJS.Signals): Promise<boolean> {
  if (!isAlive(pid) || !commandLine(pid).includes(mark)) return false;
  process.kill(pid, "SIGCONT");
  process.kill(pid, signal);
  const killAt = Date.now() + 10_000;
  let killed = false;
  while (isAlive(pid)) {
    if (!killed && Date.now() > killAt) {
      process.kill(pid, "SIGKILL");
      killed = true;
    }
    await sleep(50);
  }
  return true;
}

function isZombie(pid: number): boolean {
  if (process.platform !== "linux") return false;
  try {
    return /^State:\s+Z/m.test(readFileSync(`/proc/${pid}/status`, "utf8"));
  } catch {
    return true;
  }
}

function allParents(): Map<number, number> {
  const parents = new Map<number, number>();
  if (process.platform === "linux") {
    for (const name of readdirSync("/proc")) {
      if (!/^\d+$/.test(name)) continue;
      try {
        // The name of the program, in parentheses, may itself hold spaces and parentheses.
        const fields = readFileSync(`/proc/${name}/stat`, "utf8")
          .replace(/^.*\) /s, "")
          .split(" ");
        parents.set(Number(name), Number(fields[1]));
      } catch {
        // It ended while we looked.
      }
    }
    return parents;
  }
  for (const line of execFileSync("ps", ["-A", "-o", "pid=,ppid="], { encoding: "utf8" }).trim().split("\n")) {
    const [pid, parent] = line.trim().split(/\s+/).map(Number);
    if (pid !== undefined && parent !== undefined) parents.set(pid, parent);
  }
  return parents;
}

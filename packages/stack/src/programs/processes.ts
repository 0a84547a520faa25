import { execFileSync } from "node:child_process";
import { readdirSync, readFileSync } from "node:fs";
import { setTimeout as sleep } from "node:timers/promises";

/** Whether a process with that pid runs, of this user or another. */
export function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return !isZombie(pid);
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === "EPERM";
  }
}

/** The pids of a process and its descendants, the process first. */
export function withDescendants(pid: number): number[] {
  const parents = allParents();
  const found = [pid];
  for (const one of found) for (const [child, parent] of parents) if (parent === one) found.push(child);
  return found;
}

/** The pid of the parent of a process. */
export const parentOf = (pid: number): number | undefined => allParents().get(pid);

/** The command line of a process, or an empty string if the process has ended. */
export function commandLine(pid: number): string {
  try {
    if (process.platform === "linux") return readFileSync(`/proc/${pid}/cmdline`, "utf8").replaceAll("\0", " ");
    return execFileSync("ps", ["-o", "command=", "-p", String(pid)], { encoding: "utf8" });
  } catch {
    return "";
  }
}

/**
 * Stops a process that an earlier run left behind and returns whether there was one. Its command line must contain
 * `mark`: a pid file may be older than the last reboot, and its number may belong to an unrelated process by now.
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
        // Cut the program's name: it stands in parentheses and may contain spaces and parentheses.
        const fields = readFileSync(`/proc/${name}/stat`, "utf8")
          .replace(/^.*\) /s, "")
          .split(" ");
        parents.set(Number(name), Number(fields[1]));
      } catch {
        // The process has ended in the meantime.
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

import { linkSync, mkdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { dirname } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { isAlive } from "./programs/processes.ts";

/**
 * The locks of this process. A file with our pid that is not listed here is left from an earlier process with that pid.
 */
const held = new Set<string>();

/** Takes a lock file for this process. Returns a function to release it, or the pid of the process that holds it. */
export function takeLock(path: string): (() => void) | number {
  mkdirSync(dirname(path), { recursive: true });
  // Write our pid to a file of our own and link it: the lock appears with its content, so it never has no owner.
  const mine = `${path}.${process.pid}`;
  writeFileSync(mine, String(process.pid));
  try {
    for (;;) {
      try {
        linkSync(mine, path);
        held.add(path);
        return () => {
          held.delete(path);
          rmSync(path, { force: true });
        };
      } catch (error) {
        if ((error as NodeJS.ErrnoException).code !== "EEXIST") throw error;
      }
      const owner = ownerOf(path);
      if (owner === process.pid && held.has(path)) return owner;
      if (owner !== undefined && owner !== process.pid && isAlive(owner)) return owner;
      // The owner was killed. Two processes may see that at once; reading the file again keeps the window tiny.
      if (ownerOf(path) === owner) rmSync(path, { force: true });
    }
  } finally {
    rmSync(mine, { force: true });
  }
}

/** Runs `work` while this process holds the lock. Waits for it, and calls `onWait` once if another process has it. */
export async function withLock<T>(path: string, work: () => Promise<T>, onWait: () => void): Promise<T> {
  for (let waited = false; ; waited = true) {
    const release = takeLock(path);
    if (typeof release === "function") {
      try {
        return await work();
      } finally {
        release();
      }
    }
    if (!waited) onWait();
    await sleep(200);
  }
}

function ownerOf(path: string): number | undefined {
  try {
    return Number(readFileSync(path, "utf8"));
  } catch {
    return undefined;
  }
}

import { linkSync, mkdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { dirname } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { isAlive } from "./programs/processes.ts";

/** What this process holds: a file with our pid that is not among them was left by an earlier process of that number. */
const held = new Set<string>();

/** Takes a lock file for this process: returns its release, or the pid of the living process that has it. */
export function takeLock(path: string): (() => void) | number {
  mkdirSync(dirname(path), { recursive: true });
  // The file appears with its content at once: a reader must never see a lock without an owner.
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
      // Its owner was killed. Two processes may see that at once; the look at the file just before keeps the window tiny.
      if (ownerOf(path) === owner) rmSync(path, { force: true });
    }
  } finally {
    rmSync(mine, { force: true });
  }
}

/** Runs `work` while no other process does; waits its turn, and calls `waiting` once where it has to. */
export async function withLock<T>(path: string, work: () => Promise<T>, waiting: () => void = () => undefined): Promise<T> {
  let told = false;
  for (;;) {
    const release = takeLock(path);
    if (typeof release === "function") {
      try {
        return await work();
      } finally {
        release();
      }
    }
    if (!told) waiting();
    told = true;
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

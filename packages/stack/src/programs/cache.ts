import { createHash } from "node:crypto";
import { existsSync, mkdirSync, readdirSync, readFileSync, renameSync, rmSync } from "node:fs";
import { homedir } from "node:os";
import { join } from "node:path";
import { withLock } from "../lock.ts";

/** Progress for people, one line at a time. */
export type Progress = (line: string) => void;

/** Downloads are kept outside the clone, so that a second clone needs none: `PM_CACHE_DIR`, else `~/.cache/patient-management`. */
export function cacheDir(): string {
  const base = process.env.XDG_CACHE_HOME ?? join(homedir(), ".cache");
  return process.env.PM_CACHE_DIR ?? join(base, "patient-management");
}

/** Whether `name` is in the cache, complete and checked. */
export function isCached(name: string): boolean {
  return existsSync(join(cacheDir(), name));
}

/**
 * The folder `name` in the cache; where it is missing, `install` fills a temporary one, which is then renamed. So the
 * folder is there completely or not at all, however an install ends, and two processes never do the same work twice.
 */
export async function cached(name: string, progress: Progress, install: (dir: string) => Promise<void>): Promise<string> {
  const dir = join(cacheDir(), name);
  if (existsSync(dir)) return dir;
  mkdirSync(cacheDir(), { recursive: true });
  const waiting = () => progress(`waiting for another process that is downloading ${name}`);
  await withLock(
    `${dir}.lock`,
    async () => {
      if (existsSync(dir)) return;
      const partial = `${dir}.partial`;
      rmSync(partial, { recursive: true, force: true });
      mkdirSync(partial);
      try {
        await install(partial);
        renameSync(partial, dir);
      } finally {
        rmSync(partial, { recursive: true, force: true });
      }
    },
    waiting,
  );
  return dir;
}

/** One SHA-256 for all files of a folder: of the lines `<sha256>  <name>`, sorted by name, as `sha256sum * | sha256sum` says. */
export function digestOf(dir: string): string {
  const all = createHash("sha256");
  for (const name of readdirSync(dir).sort()) {
    const one = createHash("sha256")
      .update(readFileSync(join(dir, name)))
      .digest("hex");
    all.update(`${one}  ${name}\n`);
  }
  return all.digest("hex");
}

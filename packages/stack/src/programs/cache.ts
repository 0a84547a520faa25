import { createHash } from "node:crypto";
import { existsSync, mkdirSync, readdirSync, readFileSync, renameSync, rmSync } from "node:fs";
import { homedir } from "node:os";
import { join } from "node:path";
import { withLock } from "../lock.ts";

/** Shows people what is going on, one line per call. */
export type Progress = (line: string) => void;

/** The folder of all downloads: `PM_CACHE_DIR`, or `~/.cache/patient-management`. All clones share it. */
export function cacheDir(): string {
  const base = process.env.XDG_CACHE_HOME ?? join(homedir(), ".cache");
  return process.env.PM_CACHE_DIR ?? join(base, "patient-management");
}

/** Whether the cache holds `name`. What it holds is complete and checked. */
export function isCached(name: string): boolean {
  return existsSync(join(cacheDir(), name));
}

/**
 * Returns the folder `name` of the cache. If it is missing, `install` fills a temporary folder, which is then renamed,
 * so a broken install leaves nothing behind. Other processes wait for it instead of installing the same.
 */
export async function cached(name: string, progress: Progress, install: (dir: string) => Promise<void>): Promise<string> {
  const dir = join(cacheDir(), name);
  if (existsSync(dir)) return dir;
  mkdirSync(cacheDir(), { recursive: true });
  const onWait = () => progress(`waiting for another process that is downloading ${name}`);
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
    onWait,
  );
  return dir;
}

/** One SHA-256 for all files of a folder, the same as `sha256sum * | sha256sum` prints. */
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

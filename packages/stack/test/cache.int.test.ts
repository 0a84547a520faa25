import { spawnSync } from "node:child_process";
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, expect, test } from "vitest";
import { takeLock } from "../src/lock.ts";
import { cached, digestOf } from "../src/programs/cache.ts";

const folder = mkdtempSync(join(tmpdir(), "pm-cache-test-"));
process.env.PM_CACHE_DIR = folder;
afterAll(() => rmSync(folder, { recursive: true, force: true }));
const quiet = () => undefined;

/** The pid of a process that has ended. */
const deadPid = () => spawnSync("sh", ["-c", "echo $$"], { encoding: "utf8" }).stdout.trim();

test("what two ask for at once is installed once", async () => {
  let installs = 0;
  const install = async (dir: string) => {
    installs++;
    await new Promise((resolve) => setImmediate(resolve));
    writeFileSync(join(dir, "program"), "content");
  };
  const folders = await Promise.all([cached("tool-1", quiet, install), cached("tool-1", quiet, install)]);
  expect([installs, new Set(folders).size]).toEqual([1, 1]);
  expect(readFileSync(join(folders[0] ?? "", "program"), "utf8")).toBe("content");
});

test("an install that fails leaves nothing, and the next one starts afresh", async () => {
  const broken = cached("tool-2", quiet, async (dir) => {
    writeFileSync(join(dir, "half"), "");
    throw new Error("the network is gone");
  });
  await expect(broken).rejects.toThrow("the network is gone");
  const dir = await cached("tool-2", quiet, async (fresh) => writeFileSync(join(fresh, "whole"), ""));
  expect(readdirSync(dir)).toEqual(["whole"]);
});

test("an install that was killed does not stand in the way", async () => {
  writeFileSync(join(folder, "tool-3.lock"), deadPid());
  const dir = await cached("tool-3", quiet, async (fresh) => writeFileSync(join(fresh, "whole"), ""));
  expect(existsSync(join(dir, "whole"))).toBe(true);
});

test("a lock names its living owner, and is free again after its release", () => {
  const path = join(folder, "lock");
  const release = takeLock(path);
  expect(takeLock(path)).toBe(process.pid);
  if (typeof release === "function") release();
  const again = takeLock(path);
  expect(typeof again).toBe("function");
  if (typeof again === "function") again();
  expect(existsSync(path)).toBe(false);
});

test("a digest notices a changed byte and another name", () => {
  const dir = mkdtempSync(join(folder, "digest-"));
  writeFileSync(join(dir, "a.jar"), "one");
  const first = digestOf(dir);
  writeFileSync(join(dir, "a.jar"), "two");
  const changed = digestOf(dir);
  rmSync(join(dir, "a.jar"));
  writeFileSync(join(dir, "b.jar"), "one");
  expect(new Set([first, changed, digestOf(dir)]).size).toBe(3);
});

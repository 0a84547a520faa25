import { spawnSync } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, expect, test } from "vitest";

const vitest = join(import.meta.dirname, "../node_modules/vitest");
const folder = mkdtempSync(join(tmpdir(), "pm-reporter-"));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

writeFileSync(
  join(folder, "example.test.ts"),
  `import { describe, expect, test } from ${JSON.stringify(join(vitest, "dist/index.js"))};
  test("holds", () => undefined);
  test("does not", () => expect(1).toBe(2));
  test.skipIf(true)("on a Mac", { meta: { skipped: "this is no Mac" } }, () => undefined);
  test("on Sundays", ({ skip }) => skip("it is\\n  Monday"));
  test("a page", async ({ annotate }) => void (await annotate("the footer", "skipped")));
  describe.skipIf(true)("a browser", { meta: { skipped: "there is none" } }, () => {
    test("opens", () => undefined);
    test("closes", () => undefined);
  });`,
);

function run(...options: string[]): string {
  const reporter = join(import.meta.dirname, "reporter.ts");
  const args = [join(vitest, "vitest.mjs"), "run", "--root", folder, "--reporter", reporter, ...options];
  return spawnSync(process.execPath, args, { encoding: "utf8", env: { ...process.env, NO_COLOR: "1" } }).stdout;
}

test("a run ends with its failures, with all that was skipped and why, and with the counts", { timeout: 30_000 }, () => {
  expect(run().trim().split("\n")).toEqual([
    "FAILED example.test.ts > does not: expected 1 to be 2 // Object.is equality",
    "skipped: example.test.ts > on a Mac: this is no Mac",
    "skipped: example.test.ts > on Sundays: it is Monday",
    "skipped: a part of example.test.ts > a page: the footer",
    "skipped: example.test.ts > a browser: there is none (2 tests)",
    "2 passed, 1 failed",
  ]);
});

test("tests that were not asked for by name are not told as skipped", { timeout: 30_000 }, () => {
  expect(run("-t", "holds").trim()).toBe("1 passed, 0 failed");
});

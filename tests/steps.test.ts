import { spawnSync } from "node:child_process";
import { expect, test } from "vitest";

/** What a run of these steps prints, and its exit code. */
function runSteps(steps: string, options = "{}"): { output: string; status: number | null } {
  const script = `import { runSteps } from "./steps.ts"; await runSteps(${steps}, ${options});`;
  const args = ["--input-type=module-typescript", "--eval", script];
  const { stdout, status } = spawnSync(process.execPath, args, { cwd: import.meta.dirname, encoding: "utf8" });
  return { output: stdout, status };
}

test("a run goes on after a failure, sums up tests and steps, and ends with what was skipped and the counts", () => {
  const tests = "echo 'skipped: a.test.ts > a: no browser'; echo 'FAILED a.test.ts > b: 1 is 2'; echo '7 passed, 1 failed'; exit 1";
  const { output, status } = runSteps(
    JSON.stringify([
      { name: "tests", command: tests },
      { name: "lint", command: "true" },
      { name: "types", command: "false" },
    ]),
    '{ notRun: ["the cluster tests: by hand"] }',
  );
  expect(status).toBe(1);
  expect(output).toMatch(
    new RegExp(
      [
        "FAILED {2}tests \\(\\d+ s\\)\n {8}a.test.ts > b: 1 is 2\nok {6}lint \\(\\d+ s\\)\nFAILED {2}types \\(\\d+ s\\)\n\n",
        "skipped: a.test.ts > a: no browser\nskipped: the cluster tests: by hand\n8 passed, 2 failed\n$",
      ].join(""),
    ),
  );
});

test("a step that lacks a tool is skipped with the reason, neither passed nor failed", () => {
  const { output, status } = runSteps('[{ name: "judge", command: "false", missing: async () => "there is\\n  no Python" }]');
  expect(status).toBe(0);
  expect(output).toMatch(/skipped judge \(\d+ s\)\n\nskipped: judge: there is no Python\n0 passed, 0 failed\n$/);
});

test("a step of which everything was skipped did not pass", () => {
  const { output } = runSteps(JSON.stringify([{ name: "tests", command: "echo 'skipped: a: no Go'; echo '0 passed, 0 failed'" }]));
  expect(output).toMatch(/skipped tests \(\d+ s\)\n\nskipped: a: no Go\n0 passed, 0 failed\n$/);
});

test("what does not end in time is ended with all that it started, and skipped", () => {
  const started = Date.now();
  const slow = "sleep 60 & sleep 60; echo '1 passed, 0 failed'";
  const { output, status } = runSteps(
    JSON.stringify([
      { name: "quick", command: "true" },
      { name: "slow", command: slow },
      { name: "later", command: "true" },
    ]),
    "{ minutes: 0.02 }",
  );
  // Its output is open as long as one of them runs.
  expect(Date.now() - started).toBeLessThan(30_000);
  expect(status).toBe(0);
  expect(output).toMatch(/skipped: slow: .*\nskipped: later: .*\n1 passed, 0 failed\n$/);
});

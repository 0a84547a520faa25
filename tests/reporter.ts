import type { Reporter, SerializedError, TestCase, TestModule, Vitest } from "vitest/node";

declare module "vitest" {
  interface TaskMeta {
    /** Of a suite or test that is skipped on this machine: why. */
    skipped?: string;
  }
}

/**
 * Ends a run with a line for each failure, lines for what was skipped, and `N passed, N failed` alone on the last one,
 * so that the end of a log says what went wrong. A file that could not be loaded and an error outside of tests fail.
 */
export default class LastLineReporter implements Reporter {
  private isWhole = true;

  onInit(vitest: Vitest): void {
    // With `-t`, all others are skipped, and nobody wants to read their names.
    this.isWhole = vitest.config.testNamePattern === undefined;
  }

  onTestRunEnd(modules: readonly TestModule[], unhandledErrors: readonly SerializedError[]): void {
    let passed = 0;
    const failures: string[] = [];
    const fail = (where: string, errors: readonly SerializedError[]) =>
      failures.push(`FAILED ${where}: ${errors[0]?.message.split("\n")[0] ?? "no error was given"}\n`);
    for (const error of unhandledErrors) fail("outside of tests", [error]);
    for (const module of modules) {
      for (const error of module.errors()) fail(module.relativeModuleId, [error]);
      for (const test of module.children.allTests()) {
        const { state, errors } = test.result();
        if (state === "passed") passed++;
        else if (state === "failed") fail(`${module.relativeModuleId} > ${test.fullName}`, errors);
      }
    }
    const skipped = this.isWhole ? skips(modules) : [];
    // After the default reporter's summary, which is printed in the same turn.
    setImmediate(() => process.stdout.write(`\n${failures.join("")}${skipped.join("")}${passed} passed, ${failures.length} failed\n`));
  }
}

/** A line for each suite with skipped tests, for each skipped test outside of suites, and for what a test left out. */
function skips(modules: readonly TestModule[]): string[] {
  const counts = new Map<string, number>();
  const count = (where: string, why: string) => {
    const line = `skipped: ${where}: ${why.replace(/\s+/g, " ").slice(0, 1_000)}`;
    counts.set(line, (counts.get(line) ?? 0) + 1);
  };
  for (const test of modules.flatMap((module) => [...module.children.allTests()])) {
    const result = test.result();
    if (result.state === "skipped") count(nameOf(test), result.note ?? test.meta().skipped ?? "it says no reason");
    for (const { type, message } of test.annotations()) if (type === "skipped") count(`a part of ${nameOf(test)}`, message);
  }
  return [...counts].map(([line, tests]) => `${line}${tests > 1 ? ` (${tests} tests)` : ""}\n`);
}

/** A suite is skipped as a whole for one reason; its tests need no line each. */
function nameOf({ module, parent, fullName }: TestCase): string {
  const isSuiteSkipped = parent.type === "suite" && parent.options.mode === "skip";
  return `${module.relativeModuleId} > ${isSuiteSkipped ? parent.fullName : fullName}`;
}

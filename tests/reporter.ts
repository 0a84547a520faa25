import type { Reporter, SerializedError, TestModule } from "vitest/node";

/**
 * Ends a run with a line for each failure and `N passed, N failed` alone on the last one, so that the end of a log says what
 * went wrong. A file that could not be loaded and an error outside of tests count as failed.
 */
export default class LastLineReporter implements Reporter {
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
    // After the default reporter's summary, which is printed in the same turn.
    setImmediate(() => process.stdout.write(`\n${failures.join("")}${passed} passed, ${failures.length} failed\n`));
  }
}

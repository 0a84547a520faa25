import { afterEach, expect, test, vi } from "vitest";
import { expectFindings, showFindings } from "./checks.ts";
import { metrics } from "./metrics.ts";

afterEach(() => void vi.useRealTimers());

test("what a comparison found is shown until a later one, and not for ever by a replica that compares no more", async () => {
  vi.useFakeTimers({ toFake: ["Date"] });
  const shown = async () => (await metrics.metrics()).split("\n").filter((line) => line.startsWith("reconciliation_findings{"));
  showFindings({ accounts: 2, patients: 0 }, 60_000);
  expect(await shown()).toEqual(['reconciliation_findings{kind="accounts"} 2', 'reconciliation_findings{kind="patients"} 0']);
  showFindings({ accounts: 0 }, 60_000);
  expect(await shown()).toContain('reconciliation_findings{kind="accounts"} 0');
  vi.setSystemTime(Date.now() + 120_001);
  expect(await shown()).toEqual([]);
});

test("a comparison is overdue from when it should have been repeated until it has ended again", async () => {
  vi.useFakeTimers({ toFake: ["Date"] });
  const overdue = async () => /^reconciliation_overdue_seconds (\S+)/m.exec(await metrics.metrics())?.[1];
  expectFindings(60_000);
  expect(await overdue()).toBe("0");
  vi.setSystemTime(Date.now() + 100_000);
  expect(await overdue()).toBe("40");
  showFindings({ accounts: 1 }, 60_000);
  expect(await overdue()).toBe("0");
});

import { afterEach, expect, test, vi } from "vitest";
import { showFindings } from "./checks.ts";
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

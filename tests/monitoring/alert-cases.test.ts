import { allAlerts } from "@pm/monitoring/rules";
import { expect, test } from "vitest";
import { cases } from "./alert-cases.ts";

test("every alert, in each of its severities, has samples at which it fires and samples at which it does not", () => {
  const alerts = allAlerts.map(({ name, severity }) => `${name} ${severity}`);
  const ofCases = Object.entries(cases).flatMap(([name, each]) =>
    each.map(({ severity }) => `${name} ${severity ?? allAlerts.find((alert) => alert.name === name)?.severity}`),
  );
  expect([...new Set(ofCases)].sort()).toEqual([...new Set(alerts)].sort());
  for (const { fires, silent } of Object.values(cases).flat())
    expect([Object.keys(fires).length > 0, Object.keys(silent).length > 0]).toEqual([true, true]);
});

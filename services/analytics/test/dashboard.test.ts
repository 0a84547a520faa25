/** The dashboard's routes, with sessions and reports that do what a test needs. */
import { AppError } from "@pm/kit/errors";
import { createRestApp } from "@pm/kit/http/rest";
import { createLogger } from "@pm/kit/log";
import { expect, test } from "vitest";
import { registerDashboard } from "../src/dashboard/rest.ts";
import type { DashboardSessions } from "../src/dashboard/session.ts";
import type { Reports } from "../src/reports/reports.ts";
import { about } from "../src/reports/schemas.ts";

test("a cookie that was renewed reaches the browser even where the numbers cannot be read", async () => {
  const lifecycle = { onClose: () => undefined, onReady: () => undefined, notReady: async () => [], shutdown: async () => undefined };
  const verifier = {
    verify: () => Promise.reject(new AppError("unauthenticated", "Send an access token.")),
    onRevoked: () => () => undefined,
  };
  const rest = createRestApp({ service: "analytics", ...about, log: createLogger("test", "silent"), lifecycle, verifier });
  const caller = {
    kind: "user",
    id: "u",
    sessionId: "s",
    roles: [],
    scopes: new Set(["analytics:read"]),
    teams: [],
    token: "",
    expiresAt: 0,
  } as const;
  const sessions = { viewer: async () => ({ caller: { ...caller, scopes: new Set(["analytics:read" as const]) }, cookie: "renewed" }) };
  const away = () => Promise.reject(new AppError("unavailable", "The numbers cannot be read right now."));
  const reports = { patients: away, breakdown: away, billing: away, activity: away, summary: away, text: away };
  registerDashboard(rest, { reports: reports as Reports, charts: { draw: away }, sessions: sessions as unknown as DashboardSessions });
  const response = await rest.app.request("/analytics/dashboard", { headers: { cookie: "pm_session=old" } });
  expect(response.status).toBe(503);
  expect(await response.text()).toContain("The numbers cannot be read right now.");
  expect(response.headers.get("set-cookie")).toMatch(/^pm_session=renewed;/);
});

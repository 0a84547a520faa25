/** The dashboard's routes, with sessions and reports that do what a test needs. */
import { AppError } from "@pm/kit/errors";
import { createLogger } from "@pm/kit/log";
import { createRestApp } from "@pm/kit/rest";
import { expect, test } from "vitest";
import { registerDashboard } from "./dashboard.ts";
import type { DashboardSessions } from "./dashboard-session.ts";
import { about } from "./documents.ts";
import type { Reports } from "./reports.ts";

test("a cookie that was renewed reaches the browser even where the numbers cannot be read", async () => {
  const lifetime = { onClose: () => undefined, onReady: () => undefined, notReady: async () => [], shutdown: async () => undefined };
  const verifier = { verify: () => Promise.reject(new AppError("unauthenticated", "Send an access token.")) };
  const rest = createRestApp({ service: "analytics", ...about, log: createLogger("test", "silent"), lifetime, verifier });
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

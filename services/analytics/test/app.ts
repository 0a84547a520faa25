/** Analytics over a real Postgres, without Kafka and auth: tests apply events, publish weeks and ask for reports. */
import { createAuditTrail } from "@pm/kit/audit/trail";
import type { Caller } from "@pm/kit/auth/verifier";
import { createRestApp } from "@pm/kit/http/rest";
import { createLogger } from "@pm/kit/log";
import { openDatabase } from "@pm/kit/postgres/database";
import { testDatabase } from "@pm/stack/testing";
import { createCharts } from "../src/charts/renderer.ts";
import { registerDashboard } from "../src/dashboard/rest.ts";
import { cookieName, type DashboardSessions } from "../src/dashboard/session.ts";
import { createPublisher } from "../src/publications/publisher.ts";
import { createReports } from "../src/reports/reports.ts";
import { registerReports } from "../src/reports/rest.ts";
import { about } from "../src/reports/schemas.ts";
import type { AnalyticsDatabase, Tables } from "../src/tables.ts";

const log = createLogger("test", "silent");

export type App = Awaited<ReturnType<typeof openAnalytics>>;

/** @param clock is read for every request, so a test may change it */
export async function openAnalytics(clock: { now: number }, clinicTimeZone: string) {
  const urls = await testDatabase("analytics");
  const db: AnalyticsDatabase = openDatabase<Tables>({
    settings: { url: urls.databaseUrl },
    poolSize: 4,
    applicationName: "test",
    log,
  });
  const now = () => clock.now;
  const callerWith = (scopes: string[]): Caller => ({
    ...{ kind: "user", id: "somebody", sessionId: "s", roles: [], teams: [], hasSecondFactor: false, token: "", issuedAt: 0, expiresAt: 0 },
    scopes: new Set(scopes) as Caller["scopes"],
  });
  /** `Bearer <scope> <scope>`, and for the dashboard a cookie that is the same. */
  const scopesIn = (text = "") => text.replace(/^Bearer /, "").split(" ");
  const verifier = {
    verify: async (authorization: string | null | undefined) => callerWith(scopesIn(authorization ?? "")),
    onRevoked: () => () => undefined,
  };
  const sessions = { viewer: async (cookie?: string) => ({ caller: callerWith(scopesIn(cookie)) }) } as unknown as DashboardSessions;
  const lifecycle = { onClose: () => undefined, onReady: () => undefined, notReady: async () => [], shutdown: async () => undefined };
  const audit = createAuditTrail(db);
  let closeCharts: () => unknown = () => undefined;
  const charts = createCharts({ onClose: (_, close) => (closeCharts = close) });
  const reports = createReports({ db, now, clinicTimeZone });
  const rest = createRestApp({ service: "analytics", ...about, log, lifecycle, verifier, audit });
  registerReports(rest, { reports, charts, audit });
  registerDashboard(rest, { reports, charts, sessions, audit, clinicTimeZone, now });
  const createOwnPublisher = () => createPublisher({ db, groupId: "analytics", clinicTimeZone, now, log });
  const publisher = createOwnPublisher();
  return {
    db,
    urls,
    createPublisher: createOwnPublisher,
    /** Makes every publication that is due. */
    async publish(): Promise<void> {
      while ((await publisher.step()) === "more");
    },
    get: async (path: string, scopes = "analytics:read") =>
      await rest.app.request(path, { headers: { authorization: `Bearer ${scopes}` } }),
    page: async (path: string, scopes = "analytics:read") =>
      await rest.app.request(path, { headers: { cookie: `${cookieName}=${encodeURIComponent(scopes)}` } }),
    async close(): Promise<void> {
      await closeCharts();
      await db.kysely.destroy();
      await urls.drop();
    },
  };
}

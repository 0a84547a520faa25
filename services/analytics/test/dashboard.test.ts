/** The dashboard's routes, with sessions and reports that do what a test needs. */
import { AppError } from "@pm/kit/errors";
import { createRestApp } from "@pm/kit/http/rest";
import { createLogger } from "@pm/kit/log";
import { expect, test } from "vitest";
import { usableQuery } from "../src/dashboard/dashboard.ts";
import { registerDashboard } from "../src/dashboard/rest.ts";
import type { DashboardSessions } from "../src/dashboard/session.ts";
import type { Reports } from "../src/reports/reports.ts";
import { about } from "../src/reports/schemas.ts";

function dashboardWith(sessions: object, reports: object, draw: () => Promise<never>) {
  const lifecycle = { onClose: () => undefined, onReady: () => undefined, notReady: async () => [], shutdown: async () => undefined };
  const verifier = {
    verify: () => Promise.reject(new AppError("unauthenticated", "Send an access token.")),
    onRevoked: () => () => undefined,
  };
  const audit = { record: async () => undefined };
  const rest = createRestApp({
    service: "analytics",
    ...about,
    log: createLogger("test", "silent"),
    lifecycle,
    verifier,
    audit,
  });
  registerDashboard(rest, {
    reports: reports as Reports,
    charts: { draw },
    sessions: sessions as DashboardSessions,
    audit,
    clinicTimeZone: "Pacific/Kiritimati",
    now: () => Date.parse("2026-11-21T12:00:00Z"),
  });
  return rest.app;
}

const away = () => Promise.reject(new AppError("unavailable", "The numbers cannot be read right now."));

const caller = {
  kind: "user",
  id: "u",
  sessionId: "s",
  roles: [],
  scopes: new Set(["analytics:read", "analytics:detail"]),
  teams: [],
  token: "",
  expiresAt: 0,
};

test("the days are the clinic's where the query names no zone that there is", async () => {
  const asked: unknown[] = [];
  const patients = (query: { timeZone: string }) => {
    asked.push(query.timeZone);
    return away();
  };
  const reports = { patients, breakdown: away, billing: away, activity: away };
  const app = dashboardWith({ viewer: async () => ({ caller }) }, reports, away);
  for (const query of ["", "?timeZone=Mars/Olympus", "?timeZone=Europe/Berlin"])
    await app.request(`/analytics/dashboard${query}`, { headers: { cookie: "__Host-pm_session=old" } });
  expect(asked).toEqual(["Pacific/Kiritimati", "Pacific/Kiritimati", "Europe/Berlin"]);
});

test("the page names the values of its address that it does not use", () => {
  const viewer = { clinicTimeZone: "UTC", now: Date.parse("2026-11-21T12:00:00Z") };
  const asked = { from: "2026-11-01", to: "2027-99-99", interval: "year", timeZone: "Mars/Olympus", currency: "" };
  for (const detail of [true, false]) expect(usableQuery(asked, { ...viewer, detail }).unused).toEqual(["to", "interval", "timeZone"]);
  expect(usableQuery({ to: "2026-11-30", interval: "week" }, { ...viewer, detail: true }).unused).toEqual([]);
});

test("a cookie that was renewed reaches the browser even where the numbers cannot be read", async () => {
  const sessions = { viewer: async () => ({ caller, cookie: "renewed" }) };
  const reports = { patients: away, breakdown: away, billing: away, activity: away, summary: away, text: away };
  const response = await dashboardWith(sessions, reports, away).request("/analytics/dashboard", {
    headers: { cookie: "__Host-pm_session=old" },
  });
  expect(response.status).toBe(503);
  expect(await response.text()).toContain("The numbers cannot be read right now.");
  expect(response.headers.get("set-cookie")).toBe("__Host-pm_session=renewed; Path=/; Secure; HttpOnly; SameSite=Lax");
});

test("what a page fetches by itself is no act of its person", async () => {
  const acts: boolean[] = [];
  const viewer = async (_cookie: string, _request: object, { isAct }: { isAct: boolean }) => void acts.push(isAct);
  const app = dashboardWith({ viewer }, {}, away);
  for (const dest of ["document", "empty", undefined])
    await app.request("/analytics/dashboard", { headers: dest === undefined ? {} : { "sec-fetch-dest": dest } });
  expect(acts).toEqual([true, false, true]);
});

test("who would get a cookie that their browser does not keep is told where to sign in instead", async () => {
  let asked = 0;
  const app = dashboardWith({ signIn: async () => `cookie ${++asked}` }, {}, away);
  const signIn = async (origin: string) => {
    const headers = { "content-type": "application/x-www-form-urlencoded", "sec-fetch-site": "same-origin", origin };
    const response = await app.request("/analytics/dashboard/login", { method: "POST", headers, body: "email=a%40example.com&password=x" });
    return { status: response.status, text: await response.text(), cookie: response.headers.get("set-cookie") };
  };
  for (const origin of ["http://192.168.1.5:4004", "http://clinic.example", "http://localhost.example"]) {
    const refused = await signIn(origin);
    expect(refused).toMatchObject({ status: 403, text: expect.stringContaining("by HTTPS"), cookie: null });
  }
  expect(asked).toBe(0);
  for (const origin of [
    "https://clinic.example",
    "http://localhost:4004",
    "http://a.localhost",
    "http://127.0.0.1:4004",
    "http://[::1]:4004",
  ])
    expect((await signIn(origin)).status, origin).toBe(303);
});

test("what follows a sign-in cannot end the header that it is in, nor lead elsewhere", async () => {
  const app = dashboardWith({ signIn: async () => "cookie" }, {}, away);
  const locationAfter = async (next: string) => {
    const headers = { "content-type": "application/x-www-form-urlencoded", host: "localhost", origin: "http://localhost" };
    const body = new URLSearchParams({ email: "ada@example.com", password: "x", next }).toString();
    const response = await app.request("/analytics/dashboard/login", { method: "POST", headers, body });
    return [response.status, response.headers.get("location"), response.headers.get("x-evil")];
  };
  const dashboard = "/analytics/dashboard";
  expect(await locationAfter("?from=2026-01-01&to=2026-01-31")).toEqual([303, `${dashboard}?from=2026-01-01&to=2026-01-31`, null]);
  expect(await locationAfter("?from=1\r\nx-evil: 1")).toEqual([303, `${dashboard}?from=1%0D%0Ax-evil%3A+1`, null]);
  expect(await locationAfter("?city=\u03a9")).toEqual([303, `${dashboard}?city=%CE%A9`, null]);
  for (const next of ["//evil.example", "https://evil.example/?x", "\r\n?", ""])
    expect(await locationAfter(next)).toEqual([303, dashboard, null]);
});

test("a password that is not UTF-8 is refused by its name and nobody is asked to check it", async () => {
  let asked = 0;
  const app = dashboardWith({ signIn: async () => `cookie ${++asked}` }, {}, away);
  const send = (body: string) =>
    app.request("/analytics/dashboard/login", {
      method: "POST",
      headers: { "content-type": "application/x-www-form-urlencoded", host: "localhost", origin: "http://localhost" },
      body: Buffer.from(body, "latin1"),
    });
  for (const password of ["Zo%EB", "Zo\xeb", "%ED%A0%80"]) {
    const response = await send(`email=ada%40example.com&password=${password}`);
    expect(response.status).toBe(400);
    expect(await response.json()).toMatchObject({ errors: [{ path: "password", message: expect.stringContaining("is not UTF-8") }] });
  }
  expect(asked).toBe(0);
  expect((await send("email=ada%40example.com&password=Zo%C3%AB")).status).toBe(303);
});

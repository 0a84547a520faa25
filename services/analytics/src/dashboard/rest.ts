/** The dashboard's routes: who may see it, in which state it is, and its files. */
import { createHash } from "node:crypto";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { createRoute, z } from "@hono/zod-openapi";
import { AppError, toAppError } from "@pm/kit/errors";
import { matchesIfNoneMatch, type RestApp, type RestContext } from "@pm/kit/http/rest";
import { getCookie } from "hono/cookie";
import type { ContentfulStatusCode } from "hono/utils/http-status";
import { countSpans, type Interval } from "../calendar.ts";
import { darkRules } from "../charts/palette.ts";
import type { Charts } from "../charts/renderer.ts";
import { isPeriod, periodFrom } from "../reports/period.ts";
import type { Reports } from "../reports/reports.ts";
import { dashboardPage, type Pick, problemPage, signInPage } from "./page.ts";
import { cookieHeader, cookieName, cookiePath, type DashboardSessions, type Origin, refuseForeignPost, type Viewer } from "./session.ts";

const assetOf = (name: string) => readFileSync(join(import.meta.dirname, "assets", name), "utf8");
const assets = {
  "dashboard.css": {
    type: "text/css; charset=utf-8",
    body: `${assetOf("dashboard.css")}@media screen and (prefers-color-scheme: dark) {${darkRules}}\n`,
  },
  "dashboard.js": { type: "text/javascript; charset=utf-8", body: assetOf("dashboard.js") },
} as const;
/** Part of the page's tag, and of the files' addresses: a new release is fetched anew. */
const release = createHash("sha256").update(JSON.stringify(assets)).digest("base64url").slice(0, 10);

const pageHeaders = {
  "content-type": "text/html; charset=utf-8",
  "cache-control": "private, no-cache",
  vary: "Cookie",
  "content-security-policy":
    "default-src 'none'; style-src 'self'; script-src 'self'; img-src data:; connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
  "x-content-type-options": "nosniff",
  "referrer-policy": "same-origin",
};

const html = { content: { "text/html": { schema: z.string() } } };
const form = <T extends z.ZodObject>(schema: T) => ({
  body: { content: { "application/x-www-form-urlencoded": { schema } }, required: true },
});
const pickQuery = z.object({
  from: z.string().max(20).optional(),
  to: z.string().max(20).optional(),
  interval: z.string().max(10).optional(),
  timeZone: z.string().max(64).optional(),
  currency: z.string().max(3).optional(),
});

const dashboard = createRoute({
  operationId: "dashboard",
  method: "get",
  path: cookiePath,
  tags: ["Dashboard"],
  summary: "The dashboard, or the form to sign in",
  request: { query: pickQuery },
  responses: { 200: { description: "The page", ...html }, 304: { description: "The page is what it was" } },
});
const dashboardLogin = createRoute({
  operationId: "dashboardLogin",
  method: "post",
  path: `${cookiePath}/login`,
  tags: ["Dashboard"],
  summary: "Sign in by the form",
  request: form(
    z.object({
      email: z.string().max(320),
      password: z.string().max(1_000),
      code: z.string().max(40).optional(),
      next: z.string().max(1_000).optional(),
    }),
  ),
  responses: { 303: { description: "To the dashboard, with a cookie" }, 401: { description: "The form again", ...html } },
});
const dashboardLogout = createRoute({
  operationId: "dashboardLogout",
  method: "post",
  path: `${cookiePath}/logout`,
  tags: ["Dashboard"],
  summary: "End the session",
  responses: { 303: { description: "To the form" } },
});
const dashboardFile = createRoute({
  operationId: "dashboardFile",
  method: "get",
  path: `${cookiePath}/{file}`,
  tags: ["Dashboard"],
  summary: "Style and script of the dashboard",
  request: { params: z.object({ file: z.string().max(40) }) },
  responses: {
    200: { description: "The file", content: { "text/css": { schema: z.string() }, "text/javascript": { schema: z.string() } } },
  },
});

export function registerDashboard(
  { operation }: RestApp,
  { reports, charts, sessions }: { reports: Reports; charts: Charts; sessions: DashboardSessions },
): void {
  operation(dashboard, async (c) => {
    let viewer: Viewer | undefined;
    try {
      viewer = await sessions.viewer(getCookie(c, cookieName), originOf(c));
      if (!viewer) return c.body(signInPage({ release, next: searchOf(c), email: "" }), 200, pageHeaders);
      if (viewer.cookie) c.header("set-cookie", cookieHeader(viewer.cookie, { secure: isSecure(c) }));
      const pick = pickFrom(c.req.valid("query"));
      const { tag, show } = await plan(pick, { reports, charts }, viewer.caller.scopes.has("analytics:detail"));
      const etag = `W/"${tag}"`;
      if (matchesIfNoneMatch(c.req.header("if-none-match"), etag)) return c.body(null, 304, { ...pageHeaders, etag });
      return c.body(await reports.text(etag, show), 200, { ...pageHeaders, etag });
    } catch (error) {
      const known = toAppError(error);
      if (known.status >= 500) c.get("log").error({ err: known, requestId: c.get("requestId") }, "the dashboard failed");
      const page = problemPage({ release, message: known.message, signedIn: viewer !== undefined, requestId: c.get("requestId") });
      // Through the context: the tokens may have been renewed for this request, and the old ones are used up.
      return c.body(page, known.status as ContentfulStatusCode, { ...pageHeaders, "cache-control": "no-store" });
    }
  });

  operation(dashboardLogin, async (c) => {
    const { email, password, code, next } = c.req.valid("form");
    try {
      refuseForeign(c);
      const cookie = await sessions.signIn({ email, password, code: code || undefined }, originOf(c));
      // Only a query may follow: a whole address could lead elsewhere.
      const search = next?.startsWith("?") ? next : "";
      return c.body(null, 303, { location: `${cookiePath}${search}`, "set-cookie": cookieHeader(cookie, { secure: isSecure(c) }) });
    } catch (error) {
      const known = toAppError(error);
      if (known.status >= 500) c.get("log").error({ err: known, requestId: c.get("requestId") }, "signing in failed");
      const page = signInPage({ release, next: next ?? "", email, problem: known.message });
      return new Response(page, { status: known.status, headers: { ...pageHeaders, "cache-control": "no-store" } });
    }
  });

  operation(dashboardLogout, async (c) => {
    refuseForeign(c);
    await sessions.signOut(getCookie(c, cookieName), originOf(c));
    return c.body(null, 303, { location: cookiePath, "set-cookie": cookieHeader("", { secure: isSecure(c), ended: true }) });
  });

  operation(dashboardFile, (c) => {
    const asset = Object.entries(assets).find(([name]) => name === c.req.valid("param").file)?.[1];
    if (!asset) throw new AppError("not_found", "There is nothing at this path.");
    return c.body(asset.body, 200, {
      "content-type": asset.type,
      "cache-control": "public, max-age=31536000, immutable",
      "x-content-type-options": "nosniff",
    });
  });
}

/** Plans every report of the page; the page has a tag before anything is added up. */
async function plan(
  pick: Pick,
  { reports, charts }: { reports: Reports; charts: Charts },
  detail: boolean,
): Promise<{ tag: string; show: () => Promise<string> }> {
  const query = { from: pick.from, to: pick.to, interval: pick.interval, timeZone: pick.timeZone };
  const [patients, byAge, bySex, byCity, billing, activity] = await Promise.all([
    reports.patients(query, detail),
    reports.breakdown({ ...query, by: "ageBand" }, detail),
    reports.breakdown({ ...query, by: "sex" }, detail),
    reports.breakdown({ ...query, by: "city" }, detail),
    reports.billing({ ...query, currency: pick.currency }),
    reports.activity(query, detail),
  ]);
  const plans = [patients, byAge, bySex, byCity, billing, activity];
  const key = JSON.stringify([release, pick, plans.map(({ tag }) => tag)]);
  const tag = createHash("sha256").update(key).digest("base64url").slice(0, 22);
  return {
    tag,
    async show() {
      const [madePatients, madeAge, madeSex, madeCity, madeBilling, madeActivity] = await Promise.all([
        patients.make(),
        byAge.make(),
        bySex.make(),
        byCity.make(),
        billing.make(),
        activity.make(),
      ]);
      const madeReports = {
        patients: madePatients,
        byAge: madeAge,
        bySex: madeSex,
        byCity: madeCity,
        billing: madeBilling,
        activity: madeActivity,
      };
      return dashboardPage({ release, tag: `W/"${tag}"`, pick, reports: madeReports, charts });
    },
  };
}

/** The largest number of intervals that a chart shows well, and a page of 100 kB holds. */
const maxBars = 62;

/** What the person picked, or what makes sense instead: a page is no place for a list of wrong fields. */
function pickFrom({ from, to, interval, timeZone, currency }: z.infer<typeof pickQuery>): Pick {
  const zone = isPeriod({ timeZone }) ? (timeZone ?? "UTC") : "UTC";
  const day = (text: string | undefined) => (text && isPeriod({ from: text }) ? text : undefined);
  let [first, last] = [day(from), day(to)];
  if (first && last && first > last) [first, last] = [last, first];
  const wanted: Interval = interval === "week" || interval === "month" ? interval : "day";
  const period = periodFrom({ from: first, to: last, interval: "month", timeZone: zone }, Date.now());
  const fits = (["day", "week", "month"] as const).filter((each) => countSpans(period.from, period.to, each) <= maxBars);
  const fitting = fits.includes(wanted) ? wanted : (fits[0] ?? "month");
  return {
    from: period.from,
    to: period.to,
    interval: fitting,
    timeZone: zone,
    currency: currency && /^[A-Z]{3}$/.test(currency) ? currency : undefined,
    wanted,
  };
}

function originOf(c: RestContext): Origin {
  // The gateway sets it for everybody who comes from outside; passed on, auth throttles the person and not this service.
  return { address: c.req.header("x-envoy-external-address"), userAgent: c.req.header("user-agent"), requestId: c.get("requestId") };
}

function isSecure(c: RestContext): boolean {
  return c.req.header("x-forwarded-proto") === "https";
}

function refuseForeign(c: RestContext): void {
  refuseForeignPost({ fetchSite: c.req.header("sec-fetch-site"), origin: c.req.header("origin"), host: c.req.header("host") });
}

function searchOf(c: RestContext): string {
  return new URL(c.req.url).search;
}

/** The routes of the dashboard: the page, signing in and out, and the files of the page. */
import { createHash } from "node:crypto";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { createRoute, z } from "@hono/zod-openapi";
import { type AuditTrail, recordRefusal } from "@pm/kit/audit/trail";
import type { Instant } from "@pm/kit/calendar";
import { AppError, toAppError } from "@pm/kit/errors";
import { matchesIfNoneMatch } from "@pm/kit/http/etag";
import { type RestApp, type RestContext, requestContext } from "@pm/kit/http/rest";
import { errorAnswers } from "@pm/kit/http/schemas";
import { getCookie } from "hono/cookie";
import type { ContentfulStatusCode } from "hono/utils/http-status";
import { darkRules } from "../charts/palette.ts";
import type { Charts } from "../charts/renderer.ts";
import type { Reports } from "../reports/reports.ts";
import { planPage, usableQuery } from "./dashboard.ts";
import { dashboardPath, problemPage, signInPage } from "./page.ts";
import {
  type ClientRequest,
  cookieHeader,
  cookieName,
  type DashboardSessions,
  refuseForeignPost,
  refuseLostCookie,
  type Viewer,
} from "./session.ts";

const readAsset = (name: string) => readFileSync(join(import.meta.dirname, "assets", name), "utf8");
const assets = {
  "dashboard.css": {
    type: "text/css; charset=utf-8",
    body: `${readAsset("dashboard.css")}@media screen and (prefers-color-scheme: dark) {${darkRules}}\n`,
  },
  "dashboard.js": { type: "text/javascript; charset=utf-8", body: readAsset("dashboard.js") },
} as const;
/** Part of the tag of the page and of the addresses of its files, so that browsers fetch those of a new release. */
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

const tags = ["Dashboard"];
const page = (description: string) => ({
  description,
  content: { "text/html": { schema: z.string(), example: "<!doctype html>…" } },
});
const isThere = (description: string) => ({ description });
const problemPages = {
  500: page("A page that says that it failed"),
  503: page("A page that says what cannot be reached, and to try again"),
};
const file = z.string().openapi({ example: "…" });

// A page for people: portals and mail programs add parameters of their own to its address.
const dashboardQuery = z.looseObject({
  from: z.string().max(20).optional().openapi({ example: "2026-11-01", description: "The first day." }),
  to: z.string().max(20).optional().openapi({ example: "2026-11-30", description: "The last day." }),
  interval: z.string().max(10).optional().openapi({ example: "week", description: "`day`, `week` or `month`." }),
  timeZone: z.string().max(64).optional().openapi({ example: "Europe/Berlin", description: "An IANA time zone. By default the clinic's." }),
  currency: z.string().max(3).optional().openapi({ example: "EUR" }),
});
const dashboard = createRoute({
  operationId: "dashboard",
  method: "get",
  path: dashboardPath,
  tags,
  summary: "Show the dashboard, or the form to sign in",
  description: "A value that cannot be used is replaced by a usable one, and the page says so; it has no errors of fields.",
  request: { query: dashboardQuery },
  responses: {
    200: page("The page"),
    304: isThere("The page has not changed since the ETag in If-None-Match"),
    403: page("A page that says that the scope analytics:read is missing"),
    ...problemPages,
  },
});
const dashboardLogin = createRoute({
  operationId: "dashboardLogin",
  method: "post",
  path: `${dashboardPath}/login`,
  tags,
  summary: "Sign in with the form",
  request: {
    body: {
      required: true,
      content: {
        "application/x-www-form-urlencoded": {
          schema: z
            .object({
              email: z.string().max(320),
              password: z.string().max(1_000),
              code: z.string().max(40).optional().openapi({ description: "Of an authenticator app." }),
              next: z.string().max(1_000).optional().openapi({ description: "The query of the page to show next." }),
            })
            .openapi({ example: { email: "ada@example.com", password: "correct horse battery staple", next: "?interval=week" } }),
        },
      },
    },
  },
  responses: {
    303: isThere("To the dashboard, with a cookie"),
    401: page("The form, which says what is wrong"),
    403: page("The form: it came from another site or by plain HTTP, or the scope analytics:read is missing"),
    429: page("The form: there were too many attempts"),
    ...problemPages,
  },
});
const dashboardLogout = createRoute({
  operationId: "dashboardLogout",
  method: "post",
  path: `${dashboardPath}/logout`,
  tags,
  summary: "End the session",
  responses: { 303: isThere("To the form"), ...errorAnswers("permission_denied"), ...problemPages },
});
const dashboardFile = createRoute({
  operationId: "dashboardFile",
  method: "get",
  path: `${dashboardPath}/{file}`,
  tags,
  summary: "Read the style sheet or the script of the dashboard",
  request: {
    params: z.object({
      file: z
        .string()
        .max(40)
        .regex(/^[\w.-]+$/, "must be the name of a file")
        .openapi({ example: "dashboard.css" }),
    }),
  },
  responses: {
    200: { description: "The file", content: { "text/css": { schema: file }, "text/javascript": { schema: file } } },
    ...errorAnswers("not_found"),
  },
});

export function registerDashboard(
  { operation }: RestApp,
  parts: { reports: Reports; charts: Charts; sessions: DashboardSessions; audit: AuditTrail; clinicTimeZone: string; now: () => Instant },
): void {
  const { reports, charts, sessions, audit, clinicTimeZone, now } = parts;

  /** An error as the page shows it. */
  const recorded = (c: RestContext, error: unknown) =>
    recordRefusal(audit, requestContext(c), `analytics.${c.get("operation")}`, toAppError(error));

  operation(dashboard, async (c) => {
    let viewer: Viewer | undefined;
    try {
      // Browsers say what a request is for: `document` if a person opens the page, `empty` if a script fetches it.
      const isAct = c.req.header("sec-fetch-dest") !== "empty";
      viewer = await sessions.viewer(getCookie(c, cookieName), clientRequestOf(c), { isAct });
      if (!viewer) return c.body(signInPage({ release, next: searchOf(c), email: "" }), 200, pageHeaders);
      if (viewer.cookie) c.header("set-cookie", cookieHeader(viewer.cookie));
      const detail = viewer.caller.scopes.has("analytics:detail");
      const query = usableQuery(c.req.valid("query"), { detail, clinicTimeZone, now: now() });
      const { etag, show } = await planPage(query, { reports, charts, release });
      if (matchesIfNoneMatch(c.req.header("if-none-match"), etag)) return c.body(null, 304, { ...pageHeaders, etag });
      // What was not used says nothing of what was read.
      const { unused: _, ...details } = query;
      const entry = { ...requestContext(c), actorId: viewer.caller.id, action: "report.read", subject: "dashboard", details };
      if (detail) await audit.record(entry);
      return c.body(await reports.text(etag, show), 200, { ...pageHeaders, etag });
    } catch (error) {
      const known = await recorded(c, error);
      if (known.status >= 500) c.get("log").error({ err: known, requestId: c.get("requestId") }, "the dashboard failed");
      const text = problemPage({ release, message: known.message, signedIn: viewer !== undefined, requestId: c.get("requestId") });
      // By the context, which has the cookie: if the tokens were renewed for this request, the old ones are used up.
      return c.body(text, known.status as ContentfulStatusCode, { ...pageHeaders, "cache-control": "no-store" });
    }
  });

  operation(dashboardLogin, async (c) => {
    const { email, password, code, next } = c.req.valid("form");
    try {
      refuseForeign(c);
      refuseLostCookie(c.req.header("origin"));
      const cookie = await sessions.signIn({ email, password, code: code || undefined }, clientRequestOf(c));
      // Only a query may follow, because a whole address could lead to another site. It is encoded, because a header
      // cannot hold every character.
      const search = next?.startsWith("?") ? `?${new URLSearchParams(next)}` : "";
      return c.body(null, 303, { location: `${dashboardPath}${search}`, "set-cookie": cookieHeader(cookie) });
    } catch (error) {
      const known = await recorded(c, error);
      if (known.status >= 500) c.get("log").error({ err: known, requestId: c.get("requestId") }, "signing in failed");
      const text = signInPage({ release, next: next ?? "", email, problem: known.message });
      return new Response(text, { status: known.status, headers: { ...pageHeaders, "cache-control": "no-store" } });
    }
  });

  operation(dashboardLogout, async (c) => {
    refuseForeign(c);
    try {
      await sessions.signOut(getCookie(c, cookieName), clientRequestOf(c));
    } catch (error) {
      // The cookie stays, so that the session can still be ended with it.
      const { status, message } = toAppError(error);
      const page = problemPage({ release, message, signedIn: true, requestId: c.get("requestId") });
      return new Response(page, { status, headers: { ...pageHeaders, "cache-control": "no-store" } });
    }
    return c.body(null, 303, { location: dashboardPath, "set-cookie": cookieHeader("", { ended: true }) });
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

function clientRequestOf(c: RestContext): ClientRequest {
  // The gateway sets the address for every request from outside. Passed on, it makes auth limit the attempts of the
  // person, and not those of this service.
  return {
    address: c.req.header("x-envoy-external-address"),
    gatewaySecret: c.req.header("x-gateway-secret"),
    userAgent: c.req.header("user-agent"),
    requestId: c.get("requestId"),
  };
}

function refuseForeign(c: RestContext): void {
  refuseForeignPost({ fetchSite: c.req.header("sec-fetch-site"), origin: c.req.header("origin"), host: c.req.header("host") });
}

function searchOf(c: RestContext): string {
  return new URL(c.req.url).search;
}

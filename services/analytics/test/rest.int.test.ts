/** The reports as callers get them, over a real Postgres. */

import { randomUUID } from "node:crypto";
import { createAuditTrail } from "@pm/kit/audit/trail";
import type { Caller } from "@pm/kit/auth/verifier";
import { AppError } from "@pm/kit/errors";
import { createRestApp, type RestApp } from "@pm/kit/http/rest";
import { deadLetter } from "@pm/kit/kafka/dead-letter-store";
import { createDeadLetters } from "@pm/kit/kafka/dead-letters";
import type { ConsumedEvent } from "@pm/kit/kafka/event";
import { createLogger } from "@pm/kit/log";
import { openDatabase } from "@pm/kit/postgres/database";
import { inTransaction } from "@pm/kit/postgres/transaction";
import { query } from "@pm/stack/native/postgres";
import { testDatabase } from "@pm/stack/testing";
import { afterAll, beforeAll, expect, test } from "vitest";
import { createCharts } from "../src/charts/renderer.ts";
import { applyEvents } from "../src/ingest/ingest.ts";
import { registerOperations } from "../src/operations/rest.ts";
import { createRebuilds } from "../src/rebuild/rebuild.ts";
import { createReports } from "../src/reports/reports.ts";
import { registerReports } from "../src/reports/rest.ts";
import { about } from "../src/reports/schemas.ts";
import type { AnalyticsDatabase } from "../src/tables.ts";
import { applyBatch, authEvent, billingEvent, idOf, money, patientEvent, registered } from "./testing.ts";

const log = createLogger("test", "silent");
const now = () => Date.parse("2026-11-21T12:00:00Z");
let db: AnalyticsDatabase;
let app: RestApp["app"];
let closeCharts: () => unknown;
let drop: () => Promise<void>;
let migrationDatabaseUrl: string;

type Events = ConsumedEvent[];
const apply = (...events: Events) => applyBatch(db, events);

/** `Bearer <scope> <scope>`: what the caller may. */
const verifier = {
  async verify(authorization: string | null | undefined): Promise<Caller> {
    const scopes = authorization?.replace("Bearer ", "").split(" ") ?? [];
    if (scopes.length === 0) throw new AppError("unauthenticated", "Send an access token.");
    return {
      kind: "user",
      id: "somebody",
      sessionId: "s",
      roles: [],
      scopes: new Set(scopes) as Caller["scopes"],
      teams: [],
      hasSecondFactor: false,
      token: "",
      issuedAt: 0,
      expiresAt: 0,
    };
  },
  onRevoked: () => () => undefined,
};

beforeAll(async () => {
  const urls = await testDatabase("analytics");
  drop = urls.drop;
  migrationDatabaseUrl = urls.migrationDatabaseUrl;
  db = openDatabase({ settings: { url: urls.databaseUrl }, poolSize: 4, applicationName: "test", log });
  const lifecycle = { onClose: () => undefined, onReady: () => undefined, notReady: async () => [], shutdown: async () => undefined };
  const audit = createAuditTrail(db);
  const rest = createRestApp({ service: "analytics", ...about, log, lifecycle, verifier, audit });
  const charts = createCharts({ onClose: (_, close) => (closeCharts = close) });
  registerReports(rest, { reports: createReports({ db, now, clinicTimeZone: "UTC" }), charts, audit });
  registerOperations(rest, {
    audit,
    deadLetters: createDeadLetters({ db, groupId: "analytics", apply: applyEvents }),
    rebuilds: createRebuilds({ db, groupId: "analytics", log }),
    consistency: { check: () => Promise.reject(new AppError("unavailable", "Nobody is there.")) },
    wakeRebuilder: () => undefined,
  });
  app = rest.app;

  const cities: [string, number][] = [
    ["Bonn", 30],
    ["Köln", 20],
    ["=HYPERLINK(1)", 15],
    ["Unkel", 3],
  ];
  let index = 0;
  for (const [city, count] of cities)
    await apply(
      ...Array.from({ length: count }, () =>
        registered(`p${index++}`, Date.parse("2026-11-10T09:00:00Z") + index * 60_000, {
          city,
          sex: index % 2 ? "female" : "male",
          dateOfBirth: `${1940 + index}-05-05`,
        }),
      ),
    );
});
afterAll(async () => {
  await closeCharts();
  await db.kysely.destroy();
  await drop();
});

/** The scopes of callers who see all numbers. */
const all = "analytics:read analytics:detail";
const get = (path: string, scopes = all, headers: Record<string, string> = {}) =>
  app.request(path, { headers: { authorization: `Bearer ${scopes}`, ...headers } });
const period = "from=2026-11-01&to=2026-11-21&timeZone=Europe/Berlin";

test("a breakdown is the same in JSON and CSV, and a city that looks like a formula stays text in a spreadsheet", async () => {
  const path = `/analytics/patients?${period}&by=city`;
  const { breakdown } = (await (await get(path)).json()) as { breakdown: { rows: object[]; hidden: boolean } };
  expect(breakdown).toMatchObject({ hidden: false, truncated: false });
  expect(breakdown.rows[3]).toEqual({ value: "Unkel", registered: 3, active: 3 });
  const csv = await (await get(`${path}&format=csv`)).text();
  expect(csv).toBe("city,registered,active\nBonn,30,30\nKöln,20,20\n'=HYPERLINK(1),15,15\nUnkel,3,3\n");
});

test("who sees small counts or dead letters leaves an audit entry, and so does who may not", async () => {
  const detail = "analytics:read analytics:detail analytics:admin";
  const entriesOf = async (path: string, scopes: string) => {
    const requestId = randomUUID();
    const { status } = await get(path, scopes, { "x-request-id": requestId });
    const text = "select actor, action, subject, details from audit_entries where request_id = $1";
    const { rows } = await db.pool.query(text, [requestId]);
    return { status, entries: rows };
  };
  const query = { from: "2026-11-01", to: "2026-11-21", timeZone: "Europe/Berlin" };
  const read = { actor: "somebody", action: "report.read" };
  for (const [path, subject, further] of [
    ["patients", "reportPatients", { by: "city", format: "csv" }],
    ["activity", "reportActivity", {}],
    ["billing", "reportBilling", {}],
    ["summary", "summarize", {}],
  ] as const) {
    const address = `/analytics/${path}?${new URLSearchParams({ ...query, ...further })}`;
    const details = { ...query, ...further };
    expect(await entriesOf(address, detail)).toEqual({ status: 200, entries: [{ ...read, subject, details }] });
    const ofWeeks = address.replace("&timeZone=Europe%2FBerlin", "");
    expect(await entriesOf(ofWeeks, "analytics:read")).toEqual({ status: 200, entries: [] });
    const refused = { actor: "somebody", action: "access.refused", subject: `analytics.${subject}` };
    expect(await entriesOf(address, "patient:read")).toMatchObject({ status: 403, entries: [refused] });
  }
  const letters = await entriesOf("/analytics/dead-letters", detail);
  expect(letters).toMatchObject({ status: 200, entries: [{ action: "dead-letters.listed", details: { ids: expect.any(Array) } }] });
});

test("the form is chosen by ?format= or by Accept, and none of those offered is 406", async () => {
  const type = async (path: string, accept?: string) => {
    const response = await get(path, all, accept ? { accept } : {});
    return [response.status, response.headers.get("content-type")];
  };
  const path = `/analytics/patients?${period}`;
  expect(await type(path)).toEqual([200, "application/json"]);
  expect(await type(path, "text/csv")).toEqual([200, "text/csv; charset=utf-8"]);
  expect(await type(path, "image/*;q=0.9, text/csv;q=0.1")).toEqual([200, "image/svg+xml"]);
  expect(await type(path, "text/html, */*;q=0.1")).toEqual([200, "application/json"]);
  expect(await type(`${path}&format=svg`, "application/json")).toEqual([200, "image/svg+xml"]);
  expect(await type(path, "text/html")).toEqual([406, "application/problem+json"]);
  expect(await type(`/analytics/summary?${period}`, "image/svg+xml")).toEqual([406, "application/problem+json"]);
});

test("an unchanged report is 304, and a new event makes it another one", async () => {
  const path = `/analytics/patients?${period}`;
  const first = await get(path);
  const etag = first.headers.get("etag") ?? "";
  expect(first.headers.get("x-as-of")).toMatch(/^2026-11-10T.*; patient.v1\/0=\d+$/);
  const again = await get(path, all, { "if-none-match": etag });
  expect([again.status, await again.text()]).toEqual([304, ""]);
  const strong = etag.replace("W/", "");
  for (const tag of [strong, `"another", ${strong}`, "*"]) expect((await get(path, all, { "if-none-match": tag })).status, tag).toBe(304);
  // A caller who sees less gets a report of its own, not a 304.
  const ofWeeks = path.replace("&timeZone=Europe/Berlin", "");
  expect((await get(ofWeeks, "analytics:read", { "if-none-match": (await get(ofWeeks)).headers.get("etag") ?? "" })).status).toBe(200);
  await apply(registered("later", "2026-11-20T23:30:00Z", { city: "Bonn" }));
  const changed = await get(path, all, { "if-none-match": etag });
  expect(changed.status).toBe(200);
  const { series } = (await changed.json()) as { series: { start: string; registered: number }[] };
  expect(series.at(-1)).toMatchObject({ start: "2026-11-21", registered: 1 });
});

test("a replayed dead letter makes a report another one, though the log is read no further", async () => {
  const path = "/analytics/patients?from=2026-10-01&to=2026-10-31&interval=month";
  const [deadLettered, later] = [registered("deadLettered", "2026-10-05T10:00:00Z"), registered("after it", "2026-10-06T10:00:00Z")];
  const letter = { groupId: "analytics", event: deadLettered, reason: "the database was full", tries: 5 };
  await inTransaction(db, (tx) => deadLetter(tx, letter));
  await apply(later);
  const before = await get(path);
  expect(((await before.json()) as { totals: object }).totals).toMatchObject({ registered: 1 });
  const replay = await app.request("/analytics/dead-letters:replay", {
    method: "POST",
    headers: { authorization: "Bearer analytics:admin" },
  });
  expect(await replay.json()).toEqual({ replayed: 1, waiting: 0 });
  const after = await get(path, all, { "if-none-match": before.headers.get("etag") ?? "" });
  expect(after.status).toBe(200);
  expect(((await after.json()) as { totals: object }).totals).toMatchObject({ registered: 2 });
});

test("wrong parameters are 400 with each field, no token 401, and the wrong scope 403", async () => {
  const wrong = await get("/analytics/patients?from=2026-02-30&timeZone=Mars/Olympus&interval=year&by=name&colour=red");
  expect(wrong.status).toBe(400);
  const { errors } = (await wrong.json()) as { errors: { path: string }[] };
  expect(errors.map(({ path }) => path).sort()).toEqual(["by", "colour", "from", "interval", "timeZone"]);
  for (const query of ["from=2026-03-01&to=2026-02-01", "from=2000-01-01&to=2026-01-01&interval=day"]) {
    const response = await get(`/analytics/billing?${query}`);
    expect(response.status, query).toBe(400);
  }
  const noTopic = await get(`/analytics/dead-letters?topic=${encodeURIComponent("patient.v1\0")}`, "analytics:admin");
  expect(await noTopic.json()).toMatchObject({
    status: 400,
    errors: [{ path: "topic", message: expect.stringContaining("name of a topic") }],
  });
  expect((await app.request("/analytics/patients")).status).toBe(401);
  for (const path of ["patients", "billing", "activity", "summary", "consistency"])
    expect((await get(`/analytics/${path}`, "patient:read")).status, path).toBe(403);
  expect((await get("/analytics/consistency", "analytics:read")).status).toBe(403);
  expect((await app.request("/analytics:rebuild", { method: "POST", headers: { authorization: "Bearer analytics:read" } })).status).toBe(
    403,
  );
});

test("charges, payments, refunds and voids move what is outstanding, and it grows older by itself", async () => {
  const charge = (chargeId: string, at: string, cents: number) =>
    billingEvent("debtor", { at }, { case: "chargeCreated", value: { chargeId, amount: money(cents) } });
  const pay = (at: string, cents: number, chargeId: string, settled = cents) =>
    billingEvent(
      "debtor",
      { at },
      { case: "paymentRecorded", value: { paymentId: at, amount: money(cents), allocations: [{ chargeId, amount: money(settled) }] } },
    );
  // The payment comes before the charge that it settles.
  await apply(pay("2026-08-20T10:00:00Z", 4_000, "a"));
  await apply(
    charge("a", "2026-08-01T10:00:00Z", 10_000),
    charge("b", "2026-09-15T10:00:00Z", 5_000),
    charge("c", "2026-11-15T10:00:00Z", 700),
  );
  await apply(
    pay("2026-11-01T10:00:00Z", 6_000, "b", 5_000),
    billingEvent(
      "debtor",
      { at: "2026-11-02T10:00:00Z" },
      {
        case: "paymentRefunded",
        value: { paymentId: "x", refundId: "y", amount: money(1_500), allocations: [{ chargeId: "b", amount: money(-500) }] },
      },
    ),
    billingEvent("debtor", { at: "2026-11-16T10:00:00Z" }, { case: "chargeVoided", value: { chargeId: "c", amount: money(700) } }),
  );
  const report = (await (await get("/analytics/billing?from=2026-08-01&to=2026-11-21&interval=month")).json()) as {
    currency: string;
    totals: object;
    aging: object[];
    series: { start: string; outstanding: number; aging: number[] }[];
  };
  expect(report.totals).toMatchObject({
    charged: 15_700,
    voided: 700,
    collected: 10_000,
    refunded: 1_500,
    outstandingAtEnd: 6_500,
    creditAtEnd: 0,
  });
  expect(report.series.map(({ start, outstanding, aging }) => [start, outstanding, aging])).toEqual([
    ["2026-08-01", 6_000, [6_000, 0, 0, 0]],
    ["2026-09-01", 11_000, [5_000, 6_000, 0, 0]],
    ["2026-10-01", 11_000, [0, 5_000, 0, 6_000]],
    ["2026-11-01", 6_500, [0, 0, 500, 6_000]],
  ]);
  expect(report.aging).toEqual([
    { bucket: "0–30", amount: 0 },
    { bucket: "31–60", amount: 0 },
    { bucket: "61–90", amount: 500 },
    { bucket: "90+", amount: 6_000 },
  ]);
});

test("a merge takes the other record out, however late it is heard of, and an unmerge brings it back", async () => {
  const total = async () =>
    ((await (await get("/analytics/summary?from=2026-11-01&to=2026-11-21")).json()) as { patients: { now: object } }).patients.now;
  const before = (await total()) as { activeAtEnd: number };
  await apply(patientEvent("p1", 2, { at: "2026-11-12T10:00:00Z" }, { case: "merged", value: { mergedPatientId: idOf("p2") } }));
  expect(await total()).toMatchObject({ merged: 1, activeAtEnd: before.activeAtEnd - 1 });
  await apply(patientEvent("p1", 3, { at: "2026-11-13T10:00:00Z" }, { case: "unmerged", value: { unmergedPatientId: idOf("p2") } }));
  expect(await total()).toMatchObject({ merged: 1, unmerged: 1, activeAtEnd: before.activeAtEnd });
});

test("sign-ins and failures are counted", async () => {
  const failures = Array.from({ length: 12 }, (_, n) =>
    authEvent({ at: "2026-11-05T10:00:00Z" }, { case: "signInFailed", value: { reason: n < 3 ? 2 : 1 } }),
  );
  await apply(...failures, authEvent({ at: "2026-11-05T10:00:00Z" }, { case: "signedIn", value: { userId: "u", sessionId: "s" } }));
  const path = "/analytics/activity?from=2026-11-01&to=2026-11-21";
  const report = (await (await get(path)).json()) as { totals: object; failures: { count: number | null }[] };
  expect(report.totals).toMatchObject({ signedIn: 1, failed: 12 });
  expect(report.failures.map(({ count }) => count)).toEqual([0, 9, 3, 0]);
});

test("a rebuild is asked for once, answers where it is, and leaves an audit entry", async () => {
  const post = () => app.request("/analytics:rebuild", { method: "POST", headers: { authorization: "Bearer analytics:admin" } });
  const started = await post();
  expect(started.status).toBe(202);
  const location = started.headers.get("location") ?? "";
  expect((await post()).status).toBe(409);
  await createRebuilds({ db, groupId: "analytics", log }).step();
  const progress = (await (await get(location, "analytics:admin")).json()) as { state: string; eventsDone: number; eventsTotal: number };
  expect(progress.state).toBe("done");
  expect(progress.eventsDone).toBe(progress.eventsTotal);
  const { rows } = await db.pool.query("select actor, action from audit_entries where action like 'rollups%'");
  expect(rows).toEqual([{ actor: "somebody", action: "rollups.rebuild-requested" }]);
});

test("a change of operators without its audit entry is no change", async () => {
  const broken = registered("gone", "2026-11-05T10:00:00Z");
  const letter = { groupId: "analytics", event: broken, reason: "the database was full", tries: 5 };
  await inTransaction(db, (tx) => deadLetter(tx, letter));
  const { rows } = await db.pool.query("select id from dead_letters where state = 'waiting'");
  const post = (path: string) => app.request(path, { method: "POST", headers: { authorization: "Bearer analytics:admin" } });
  const paths = [`/analytics/dead-letters/${rows[0].id}:discard`, "/analytics:rebuild"];
  const asOwner = (text: string) => query(migrationDatabaseUrl, (client) => client.query(text));
  await asOwner("revoke insert on audit_entries from analytics");
  for (const path of paths) expect((await post(path)).status, path).toBe(500);
  await asOwner("grant insert on audit_entries to analytics");
  const left =
    "select (select state from dead_letters where id = $1), (select count(*) from rebuilds where state <> 'done')::integer as rebuilds";
  expect((await db.pool.query(left, [rows[0].id])).rows).toEqual([{ state: "waiting", rebuilds: 0 }]);
  expect((await post(paths[0] ?? "")).status).toBe(204);
});

test("what is asked for is UTF-8, in queries and in paths", async () => {
  for (const [path, name] of [
    ["/analytics/summary?timeZone=%FF", "timeZone"],
    ["/analytics/patients?from=2026-11-01&by=%C3%28", "by"],
    ["/analytics/rebuilds/%FF", "id"],
  ] as const) {
    const answer = await get(path, "analytics:read analytics:admin");
    expect([answer.status, await answer.json()]).toMatchObject([
      400,
      { errors: [{ path: name, message: expect.stringContaining("is not UTF-8") }] },
    ]);
  }
});

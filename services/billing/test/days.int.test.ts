/** The clinic's days on a real Postgres: around midnight, at the turn of the year, and where clocks change. */
import { create } from "@bufbuild/protobuf";
import { addDays } from "@pm/kit/calendar";
import { AppError } from "@pm/kit/errors";
import { GetStatementRequestSchema, ListInvoicesRequestSchema, ListPaymentsRequestSchema } from "@pm/proto/billing/v1/billing";
import { query } from "@pm/stack/native/postgres";
import { type TestDatabase, testDatabase } from "@pm/stack/testing";
import { afterAll, beforeAll, expect, test } from "vitest";
import { openReplica, type Replica } from "./testing.ts";

let database: TestDatabase;
const replicas: Replica[] = [];
let clock = new Date(0);

beforeAll(async () => {
  database = await testDatabase("billing");
});
afterAll(async () => {
  await Promise.all(replicas.map((replica) => replica.close()));
  await database?.drop();
});

/** Billing of a clinic in a zone, at the time of `clock`. */
function clinicIn(clinicTimeZone?: string): Replica {
  const replica = openReplica(database.databaseUrl, { now: () => clock, ...(clinicTimeZone && { clinicTimeZone }) });
  replicas.push(replica);
  return replica;
}

/** The wrong fields of a call; none if it succeeds. */
const wrongFields = (call: Promise<unknown>) =>
  call.then(
    () => [],
    (error: unknown) => (error instanceof AppError ? error.options.errors?.map(({ path, message }) => `${path} ${message}`) : [error]),
  );
const chargeFor = (clinic: Replica, accountId: string, day: string) => clinic.charge(accountId, 100n, undefined, undefined, day);
const overdueOf = async ({ invoices }: Replica, accountId: string) =>
  (await invoices.list(create(ListInvoicesRequestSchema, { accountId, overdueOnly: true }))).invoices.length;
const chargedOn = async ({ statements }: Replica, accountId: string, day: string) =>
  (await statements.get(create(GetStatementRequestSchema, { accountId, fromDate: day, toDate: day }))).charged?.minorUnits;

test.each([
  ["the turn of the year", "Europe/Berlin", "2026-12-31", "2026-12-31T23:00:00Z"],
  ["the turn of the year", "America/New_York", "2026-12-31", "2027-01-01T05:00:00Z"],
  ["the turn of the year", "Pacific/Kiritimati", "2026-12-31", "2026-12-31T10:00:00Z"],
  ["the turn of the year", "UTC", "2026-12-31", "2027-01-01T00:00:00Z"],
  ["a day of 23 hours", "Europe/Berlin", "2026-03-29", "2026-03-29T22:00:00Z"],
  ["a day of 25 hours", "Europe/Berlin", "2026-10-25", "2026-10-25T23:00:00Z"],
  ["a night without midnight", "America/Sao_Paulo", "2018-11-03", "2018-11-04T03:00:00Z"],
  ["a quarter of an hour", "Asia/Kathmandu", "2028-02-28", "2028-02-28T18:15:00Z"],
])("%s in %s: charges, invoices and statements change their day at midnight there", async (_, zone, today, midnight) => {
  const clinic = clinicIn(zone);
  const tomorrow = addDays(today, 1);
  clock = new Date(Date.parse(midnight) - 1);
  const accountId = await clinic.newAccount();
  expect((await clinic.charge(accountId, 100n)).charge?.serviceDate).toBe(today);
  const payingFor = await clinic.newAccount();
  expect((await clinic.pay(payingFor, 1n)).payment?.paymentDate).toBe(today);
  const { invoice: before } = await clinic.createInvoice({ accountId, issue: true, dueDate: today });
  expect(before).toMatchObject({ issueDate: today, dueDate: today, number: expect.stringMatching(`^${today.slice(0, 4)}-`) });
  expect(await overdueOf(clinic, accountId)).toBe(0);
  const isUtc = zone === "UTC";
  expect(await wrongFields(chargeFor(clinic, accountId, addDays(today, isUtc ? 2 : 1)))).toEqual([
    "service_date must not be in the future",
  ]);

  expect(await wrongFields(clinic.payOn(payingFor, addDays(today, isUtc ? 2 : 1)))).toEqual(["payment_date must not be in the future"]);
  expect(await wrongFields(clinic.payOn(payingFor, "2026-02-30"))).toEqual(["payment_date is not a day of the calendar"]);
  expect((await clinic.payOn(payingFor, addDays(today, -9))).payment?.paymentDate).toBe(addDays(today, -9));

  clock = new Date(midnight);
  expect(await overdueOf(clinic, accountId)).toBe(1);
  expect((await clinic.charge(accountId, 10n)).charge?.serviceDate).toBe(tomorrow);
  expect(await wrongFields(clinic.createInvoice({ accountId, dueDate: today }))).toEqual([
    "due_date must be a day of the calendar, today or later",
  ]);
  const { invoice: after } = await clinic.createInvoice({ accountId, issue: true });
  expect(after).toMatchObject({ issueDate: tomorrow, dueDate: addDays(tomorrow, 30) });
  expect(after?.number).toMatch(new RegExp(`^${tomorrow.slice(0, 4)}-`));
  expect(await wrongFields(chargeFor(clinic, accountId, tomorrow))).toEqual([]);
  expect([await chargedOn(clinic, accountId, today), await chargedOn(clinic, accountId, tomorrow)]).toEqual([100n, 110n]);
});

test("a clinic that moves to another zone finds every day and number as it was", async () => {
  const [east, west] = [clinicIn("Pacific/Kiritimati"), clinicIn("Pacific/Pago_Pago")];
  clock = new Date("2029-12-31T12:00:00Z");
  const accountId = await east.newAccount();
  await east.charge(accountId, 100n);
  const { invoice } = await east.createInvoice({ accountId, issue: true });
  expect(invoice).toMatchObject({ issueDate: "2030-01-01", dueDate: "2030-01-31", number: "2030-000001" });
  expect(invoice?.lines).toMatchObject([{ serviceDate: "2030-01-01" }]);
  expect(await west.invoices.get(invoice?.invoiceId ?? "")).toEqual(invoice);
  await west.charge(accountId, 100n);
  const { invoice: next } = await west.createInvoice({ accountId, issue: true });
  expect(next).toMatchObject({ issueDate: "2029-12-31", number: "2029-000001" });
});

test("a payment of a release that knew no day of payments has the day on which the clinic recorded it", async () => {
  const clinic = clinicIn("America/Sao_Paulo");
  clock = new Date("2026-11-22T01:30:00Z");
  const accountId = await clinic.newAccount();
  const { payment } = await clinic.pay(accountId, 100n);
  const paymentId = payment?.paymentId ?? "";
  await query(database.databaseUrl, (client) => client.query("update payments set payment_date = null where id = $1", [paymentId]));
  const listed = await clinic.history.payments(create(ListPaymentsRequestSchema, { accountId }));
  expect(listed.payments).toMatchObject([{ paymentDate: "2026-11-21" }]);
  expect((await clinic.refund(paymentId, 1n)).payment?.paymentDate).toBe("2026-11-21");
});

test("without a zone, tomorrow in UTC has begun east of Greenwich", async () => {
  const clinic = clinicIn();
  clock = new Date("2026-11-21T12:00:00Z");
  const accountId = await clinic.newAccount();
  expect(await wrongFields(chargeFor(clinic, accountId, "2026-11-22"))).toEqual([]);
  expect(await wrongFields(chargeFor(clinic, accountId, "2026-11-23"))).toEqual(["service_date must not be in the future"]);
});

test("no service is of a day before the year 1, because Postgres has none", async () => {
  const clinic = clinicIn("Europe/Berlin");
  clock = new Date("2026-11-21T12:00:00Z");
  const accountId = await clinic.newAccount();
  expect(await wrongFields(chargeFor(clinic, accountId, "0000-12-31"))).toEqual(["service_date is not a day of the calendar"]);
  expect(await wrongFields(chargeFor(clinic, accountId, "0001-01-01"))).toEqual([]);
});

test("a statement may end on the last day that a text of ten characters holds", async () => {
  const clinic = clinicIn("Europe/Berlin");
  clock = new Date("2026-11-21T12:00:00Z");
  const accountId = await clinic.newAccount();
  await clinic.charge(accountId, 100n);
  const period = { accountId, fromDate: "0001-01-01", toDate: "9999-12-31" };
  const statement = await clinic.statements.get(create(GetStatementRequestSchema, period));
  expect(statement.charged?.minorUnits).toBe(100n);
});

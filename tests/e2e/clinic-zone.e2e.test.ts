/** The clinic's time zone through the running platform, with one service that has another one than the rest. */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { localDateAt } from "@pm/kit/calendar";
import { type Platform, startPlatform } from "@pm/stack/platform";
import { afterAll, beforeAll, expect, test } from "vitest";
import { type Client, logIn, person } from "./client.ts";

/** The first zone and the last one of each day: no two instants have the same day in both. */
const [east, west] = ["Pacific/Kiritimati", "Pacific/Pago_Pago"];
const dataDir = mkdtempSync(join(tmpdir(), "pm-clinic-zone-"));
let platform: Platform;
let admin: Client;

beforeAll(async () => {
  const env = { all: { CLINIC_TIME_ZONE: east }, billing: { CLINIC_TIME_ZONE: west } };
  platform = await startPlatform({ dataDir, durable: false, env });
  admin = await logIn(platform);
});
afterAll(async () => {
  await platform?.stop();
  rmSync(dataDir, { recursive: true, force: true });
});

test("a patient is registered on the clinic's day, and reports have the clinic's days unless they name a zone", async () => {
  const created = await admin.send("POST", "/patients", person());
  const today = localDateAt(Date.now(), east);
  expect(created.body).toMatchObject({ registeredDate: today });
  const tomorrow = localDateAt(Date.now() + 86_400_000, east);
  const future = await admin.send("POST", "/patients", { ...person(), registeredDate: tomorrow });
  expect(future.body).toMatchObject({ status: 400, errors: [{ path: "registeredDate", message: "must not be in the future" }] });

  const report = async (query: string) => (await admin.get(`/analytics/patients${query}`)).body;
  await expect
    .poll(() => report(""), { timeout: 30_000, interval: 500 })
    .toMatchObject({
      to: today,
      timeZone: east,
      totals: { registered: 1 },
    });
  expect(await report("?timeZone=UTC")).toMatchObject({ timeZone: "UTC", to: localDateAt(Date.now(), "UTC") });
});

test("a service with another zone is a check that does not hold", async () => {
  const { body } = await admin.get("/analytics/consistency");
  const { checks } = body as { checks: { name: string; here: string; there: string; holds: boolean }[] };
  expect(body).toMatchObject({ drift: 1, settled: true });
  expect(checks.filter(({ name }) => name.startsWith("time zone"))).toEqual([
    { name: "time zone of patient", here: east, there: east, holds: true },
    { name: "time zone of billing", here: east, there: west, holds: false },
  ]);
});

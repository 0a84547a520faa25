/** The doctor by the role that a cluster gives it: the role reads all that is verified, and nobody's name. */
import { execFile } from "node:child_process";
import { join } from "node:path";
import { promisify } from "node:util";
import type { Finding } from "@pm/kit/doctor/findings";
import { query, startPostgres } from "@pm/stack/native/postgres";
import { freePort } from "@pm/stack/programs/ports";
import { migrate, ROOT } from "@pm/stack/services";
import { afterAll, expect, test } from "vitest";

const postgres = await startPostgres({ durable: false });
afterAll(() => postgres.stop());
const { databaseUrl, migrationDatabaseUrl } = await postgres.createDatabase("billing");
await query(postgres.url, async (client) => {
  await client.query("create role billing_doctor login password 'doctor'");
  await client.query("grant connect on database billing to billing_doctor");
});
const migrateAgain = () => migrate({ name: "billing", env: { DATABASE_URL: databaseUrl, MIGRATION_DATABASE_URL: migrationDatabaseUrl } });
await migrateAgain();
const doctorUrl = Object.assign(new URL(databaseUrl), { username: "billing_doctor", password: "doctor" }).href;

async function doctor(url: string): Promise<{ code: number; findings: Finding[] }> {
  const env = { PATH: process.env.PATH, SERVICE_URL: `http://127.0.0.1:${await freePort()}`, DATABASE_URL: url };
  const command = join(ROOT, "services/billing/src/commands/doctor.ts");
  const { code, stdout } = await promisify(execFile)(process.execPath, [command, "--json"], { env }).then(
    ({ stdout }) => ({ code: 0, stdout }),
    (error: { code: number; stdout: string }) => error,
  );
  return { code, findings: JSON.parse(stdout) as Finding[] };
}

test("the role proves migrations, audit chain and ledger", async () => {
  const { code, findings } = await doctor(doctorUrl);
  expect(findings.filter(({ part }) => part === "database of billing").map(({ state }) => state)).toEqual(["well", "well", "well", "well"]);
  // The service itself does not run here.
  expect([code, findings.filter(({ state }) => state !== "well").map(({ part }) => part)]).toEqual([1, ["billing"]]);
});

test("the role reads no name and changes nothing", async () => {
  const refused = { code: "42501" };
  await query(doctorUrl, async (client) => {
    for (const statement of ["select * from accounts", "select addressee from invoices", "select * from requests", "delete from entries"])
      await expect(client.query(statement), statement).rejects.toMatchObject(refused);
  });
});

test("what a version before let the role read is taken back by the next migration", async () => {
  const owner = (text: string) => query(migrationDatabaseUrl, (client) => client.query(text));
  await owner("grant select on accounts to billing_doctor; grant select (addressee) on invoices to billing_doctor");
  await migrateAgain();
  await query(doctorUrl, async (client) => {
    for (const statement of ["select * from accounts", "select addressee from invoices"])
      await expect(client.query(statement), statement).rejects.toMatchObject({ code: "42501" });
    await client.query("select id, details from audit_entries");
  });
});

test("with a wrong password nothing is known of the database, and nothing is wrong with it", async () => {
  const { findings } = await doctor(Object.assign(new URL(doctorUrl), { password: "wrong" }).href);
  expect(findings.find(({ part }) => part === "database of billing")).toMatchObject({
    state: "unseen",
    says: "It could not be looked into: 28P01.",
  });
});

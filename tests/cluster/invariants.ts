/** What holds no matter what was killed: nothing that was answered is lost or stored twice, and all services agree. */
import { expect } from "vitest";
import { sql, until } from "./kubernetes.ts";
import { tokenSource } from "./load.ts";

/** Waits until the platform has caught up, then compares the data of the three services. */
export async function expectConsistent(
  namespace: string,
  gatewayUrl: string,
  admin: { email: string; password: string },
  created: readonly string[],
): Promise<void> {
  const token = tokenSource(gatewayUrl, admin);
  const ask = async (path: string) => {
    const headers = { authorization: `Bearer ${await token()}` };
    return (await fetch(gatewayUrl + path, { headers, signal: AbortSignal.timeout(30_000) })).json();
  };
  const registered = async () => ((await ask("/analytics/patients?interval=day")) as { totals: { registered: number } }).totals.registered;
  const count = async (database: string, table: string) => Number((await sql(namespace, database, `select count(*) from ${table}`))[0]);

  await until("every patient has an account", 120, async () => {
    const pending = await sql(namespace, "patient", "select count(*) from patient_billing where account_id is null");
    return pending[0] === "0";
  });
  const patients = await count("patient", "patients");
  await until(`analytics has counted ${patients} registrations`, 120, async () => (await registered()) === patients);
  await until("analytics' own check finds that everybody agrees", 60, async () => {
    const check = (await ask("/analytics/consistency")) as { drift: number; settled: boolean; deadLetters: number };
    return check.settled && check.drift === 0 && check.deadLetters === 0;
  });

  const stored = new Set(await sql(namespace, "patient", "select id from patients"));
  expect(created.filter((id) => !stored.has(id))).toEqual([]);
  const accounts = await sql(namespace, "billing", "select patient_id from accounts");
  expect(new Set(accounts).size).toBe(accounts.length);
  expect(new Set(accounts)).toEqual(stored);
  for (const database of ["patient", "billing", "auth"]) expect(await count(database, "outbox"), `${database}'s outbox`).toBe(0);
}

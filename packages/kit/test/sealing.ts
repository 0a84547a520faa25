import { expect } from "vitest";
import { startAuditSealer } from "../src/audit/audit.ts";
import { createLogger } from "../src/log.ts";
import { openDatabase } from "../src/postgres/database.ts";
import { testLifecycle } from "./lifecycle.ts";

/** Seals every entry of a trail that is there. With more sealers than one, as many replicas try at once. */
export async function sealAll(url: string, { sealers = 1 } = {}): Promise<void> {
  const [log, lifecycle] = [createLogger("test", "silent"), testLifecycle()];
  const db = openDatabase<unknown>({ settings: { url }, poolSize: 2, applicationName: "sealer", log });
  for (let sealer = 0; sealer < sealers; sealer++) startAuditSealer({ db, settings: { url }, log, lifecycle }).wake();
  const waiting = async () => (await db.pool.query("select count(*)::int as n from audit_unsealed")).rows[0].n;
  await expect.poll(waiting, { timeout: 60_000 }).toBe(0);
  await lifecycle.shutdown("the test has ended");
  await db.kysely.destroy();
}

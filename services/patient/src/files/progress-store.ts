/** How far a caller's imports are, and their end by request. */
import { insertIntoAudit } from "@pm/kit/audit/audit";
import type { PatientDatabase } from "../database.ts";
import { isHeld } from "./store.ts";
import type { ImportMode } from "./tables.ts";

export const importStatuses = ["running", "stopped", "cancelled", "finished"] as const;

export type ImportState = {
  id: string;
  key: string | null;
  mode: ImportMode;
  dryRun: boolean;
  status: (typeof importStatuses)[number];
  lines: bigint;
  created: bigint;
  updated: bigint;
  unchanged: bigint;
  failed: bigint;
  startedAt: Date;
  updatedAt: Date;
};

/** An import runs while its request holds a lease. Without one, its request ended early. */
const state = `i.id, i.key, i.mode, i.dry_run as "dryRun", i.lines, i.created, i.updated, i.unchanged, i.failed, i.started_at as "startedAt",
  i.updated_at as "updatedAt", case when i.finished then 'finished' when i.cancelled_at is not null then 'cancelled'
    when ${isHeld("i")} then 'running' else 'stopped' end as status`;

const listStatement = {
  name: "imports_list",
  text: `select ${state} from imports i where i.caller = $1 order by i.id desc limit 50`,
};
const readStatement = { name: "imports_read", text: `select ${state} from imports i where i.caller = $1 and i.id = $2` };
const cancelStatement = {
  name: "imports_cancel",
  text: `
    with cancelled as (
      update imports set cancelled_at = now() where caller = $1 and id = $2 and not finished and cancelled_at is null returning id
    ), audited as (
      ${insertIntoAudit} select $1, 'import.cancelled', id, $3, '{}' from cancelled
    )
    select id from cancelled`,
};

/** The newest first. */
export const listImports = (db: PatientDatabase, caller: string) => db.query<ImportState>(listStatement, [caller]);

export async function readImport(db: PatientDatabase, caller: string, id: string): Promise<ImportState | undefined> {
  return (await db.query<ImportState>(readStatement, [caller, id]))[0];
}

export async function cancelImport(db: PatientDatabase, { caller, id, requestId }: { caller: string; id: string; requestId: string }) {
  await db.query(cancelStatement, [caller, id, requestId]);
}

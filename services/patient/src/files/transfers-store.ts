/** Slots of running imports and exports, in a table that all replicas share. */
import type { PatientDatabase } from "../database.ts";

export type TransferKind = "import" | "export";
export type Transfer = { id: string; caller: string; kind: TransferKind; name: string | null };
export type RunningTransfer = { name: string | null; startedAt: Date };

/** How many transfers of a kind a caller may have at a time. */
export const maxRunning = 2;

const takeStatement = {
  name: "file_transfers_take",
  text: `
    insert into file_transfers (caller, kind, slot, id, name, expires_at)
    select $1, $2, slot, $3, $4, now() + $5 * interval '1 ms' from generate_series(1, ${maxRunning}) as slot
    where slot not in (select slot from file_transfers where caller = $1 and kind = $2 and expires_at > now())
    order by slot limit 1
    on conflict (caller, kind, slot) do update
    set id = excluded.id, name = excluded.name, started_at = now(), expires_at = excluded.expires_at
    where file_transfers.expires_at <= now()
    returning slot`,
};
const runningStatement = {
  name: "file_transfers_running",
  text: `select name, started_at as "startedAt" from file_transfers where caller = $1 and kind = $2 and expires_at > now() order by started_at`,
};

/** Takes a slot for so long. Gives what runs in all slots if none is free. */
export async function takeSlot(
  db: PatientDatabase,
  { id, caller, kind, name }: Transfer,
  leaseMs: number,
): Promise<RunningTransfer[] | undefined> {
  for (;;) {
    const taken = await db.query(takeStatement, [caller, kind, id, name, leaseMs]);
    if (taken.length > 0) return undefined;
    // Another request may have taken the same slot a moment earlier while a second one is free.
    const running = await db.query<RunningTransfer>(runningStatement, [caller, kind]);
    if (running.length >= maxRunning) return running;
  }
}

const renewStatement = {
  name: "file_transfers_renew",
  text: "update file_transfers set expires_at = now() + $2 * interval '1 ms' where id = any($1) returning id",
};

/** Renews leases. Gives the ids of those that are still held. */
export async function renewLeases(db: PatientDatabase, ids: string[], leaseMs: number): Promise<Set<string>> {
  return new Set((await db.query<{ id: string }>(renewStatement, [ids, leaseMs])).map(({ id }) => id));
}

const freeStatement = { name: "file_transfers_free", text: "delete from file_transfers where id = $1" };

export async function freeSlot(db: PatientDatabase, id: string): Promise<void> {
  await db.query(freeStatement, [id]);
}

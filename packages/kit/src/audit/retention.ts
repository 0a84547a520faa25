/**
 * Drops months of the trail beyond retention, and the command `node services/<name>/src/commands/drop-audit-months.ts`.
 */
import { randomUUID } from "node:crypto";
import { parseArgs } from "node:util";
import { Kysely, PostgresDialect, sql, type Transaction } from "kysely";
import { Pool } from "pg";
import { connectionConfig } from "../postgres/database.ts";
import { readOwnerSettings } from "../postgres/migrate.ts";
import { inCommand } from "../telemetry/command.ts";
import { insertIntoAudit } from "./audit.ts";
import { type DroppedBlocks, dropAction } from "./tombstones.ts";

type Month = { month: string; until: string; part: string };

/**
 * Drops the months that ended before a moment, the oldest first, as the owner. Each leaves an entry that says which
 * blocks are gone, and the hashes before and after them, so that the rest of the chain can be proven.
 * @returns the months that are gone
 * @throws Error if a month has entries that are not sealed yet
 */
export async function dropMonths<Tables>(db: Kysely<Tables>, before: Date, who: { actor: string; requestId: string }): Promise<string[]> {
  const { rows } = await sql<Month>`
    select month::text, until::text, case when month = '-infinity' then 'first' else to_char(month at time zone 'UTC', 'YYYY_MM') end as part
    from audit_months where until <= ${before} order by month`.execute(db);
  for (const month of rows) await db.transaction().execute((tx) => dropMonth(tx, month, who));
  return rows.map(({ part }) => part);
}

async function dropMonth<Tables>(
  tx: Transaction<Tables>,
  { month, until, part }: Month,
  { actor, requestId }: { actor: string; requestId: string },
): Promise<void> {
  const run = (text: string) => sql.raw(text).execute(tx);
  await run("set local lock_timeout = '5s'");
  const { rows: unsealed } = await sql`
    select from audit_unsealed u join audit_entries e on e.id = u.entry_id where e.occurred_at < ${until}::timestamptz limit 1`.execute(tx);
  if (unsealed.length > 0) throw new Error(`the month before ${until} has entries that are not sealed yet; try again in a second`);
  // Blocks of a month follow each other, but for an entry that was committed when the next month had begun.
  const { rows: blocks } = await sql<DroppedBlocks>`
    with ranges as (
      select min(number) as first, max(number) as last from (
        select number, number - row_number() over (order by number) as range from audit_blocks where month = ${month}::timestamptz
      ) numbered group by range
    )
    select first::text as from, last::text as to, encode(f.previous_hash, 'hex') as "previousHash", encode(l.hash, 'hex') as hash
    from ranges join audit_blocks f on f.number = first and f.month = ${month}::timestamptz
    join audit_blocks l on l.number = last and l.month = ${month}::timestamptz order by first`.execute(tx);
  // The entries that say what was dropped before may be in this month.
  const { rows: before } = await sql<{ blocks: DroppedBlocks[] }>`
    select details->'blocks' as blocks from audit_entries where action = ${dropAction} and occurred_at < ${until}::timestamptz`.execute(tx);
  const details = JSON.stringify({ until, blocks: [...before.flatMap((each) => each.blocks), ...blocks] });
  await sql`${sql.raw(insertIntoAudit)} values (${actor}, ${dropAction}, ${part}, ${requestId}, ${details})`.execute(tx);
  for (const table of ["audit_patients", "audit_blocks", "audit_entries"]) await run(`drop table ${table}_${part}`);
  await sql`delete from audit_months where month = ${month}::timestamptz`.execute(tx);
}

/**
 * The command; `--keep months` says how many whole months stay before this one. Runs as the owner role, like
 * migrations, and prints the months that are gone as JSON.
 */
export async function runDropMonths(service: string): Promise<void> {
  const { keep } = parseArgs({ options: { keep: { type: "string" } } }).values;
  if (!/^\d{1,4}$/.test(keep ?? "")) throw new Error("say how many months stay: --keep 120");
  const pool = new Pool({ ...connectionConfig(readOwnerSettings()), max: 1 });
  const db = new Kysely<unknown>({ dialect: new PostgresDialect({ pool }) });
  const now = new Date();
  const before = new Date(Date.UTC(now.getUTCFullYear(), now.getUTCMonth() - Number(keep)));
  try {
    const dropped = await inCommand(service, "drop-audit-months", () =>
      dropMonths(db, before, { actor: "operator", requestId: `command-${randomUUID()}` }),
    );
    process.stdout.write(`${JSON.stringify({ dropped })}\n`);
  } finally {
    await db.destroy();
  }
}

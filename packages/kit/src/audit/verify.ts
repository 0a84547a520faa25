/** Verification of the audit chain, and the command `node services/<name>/src/commands/verify-audit.ts`. */
import { createHash } from "node:crypto";
import { Pool } from "pg";
import { commonConfig, databaseConfig, readEnvironment } from "../config.ts";
import { connectionConfig, databaseSettings } from "../postgres/database.ts";
import { inCommand } from "../telemetry/command.ts";
import { type AuditTables, entryColumns, noHash } from "./audit.ts";

type StoredEntry = { id: bigint; occurred_us: string; actor: string; action: string; subject: string; request_id: string; details: string };
type Block = Omit<AuditTables["audit_blocks"], "sealed_at">;

/**
 * Hashes the fields as Postgres writes a JSON array of texts: as JavaScript does, but with a space after each comma.
 */
function hashEntry(entry: StoredEntry): Buffer {
  const fields = [String(entry.id), entry.occurred_us, entry.actor, entry.action, entry.subject, entry.request_id, entry.details];
  const text = `[${fields.map((field) => JSON.stringify(field)).join(", ")}]`;
  return createHash("sha256").update(text).digest();
}

function hashBlock(block: Omit<Block, "hash">): Buffer {
  const hash = createHash("sha256")
    .update(block.previous_hash)
    .update(`${block.number}:${block.entry_ids.join(",")}:`);
  for (const entryHash of block.entry_hashes) hash.update(entryHash);
  return hash.digest();
}

/** The result of a verification. `head` is `number:hash` of the last block, to be stored outside the database. */
type AuditReport =
  | { intact: true; entries: number; blocks: number; unsealed: number; head: string }
  | { intact: false; entryId: string; problem: string };

/**
 * Verifies the whole chain and names the first entry that was changed, deleted, added or reordered.
 * @param expectedHead a head that was stored before; if the chain no longer contains it, its end was removed or it was
 * rebuilt
 */
export async function verifyAudit(pool: Pool, expectedHead?: string): Promise<AuditReport> {
  const broken = (entryId: bigint | string, problem: string): AuditReport => ({ intact: false, entryId: String(entryId), problem });
  let previous: Pick<Block, "number" | "hash"> = { number: 0n, hash: noHash };
  let entries = 0;
  let foundExpected = expectedHead === undefined;
  for (;;) {
    const { rows: blocks } = await pool.query<Block>(
      "select number, entry_ids, entry_hashes, previous_hash, hash from audit_blocks where number > $1 order by number limit 20",
      [previous.number],
    );
    if (blocks.length === 0) break;
    const { rows } = await pool.query<StoredEntry>(`select ${entryColumns} from audit_entries where id = any($1)`, [
      blocks.flatMap((block) => block.entry_ids.map(BigInt)),
    ]);
    const stored = new Map(rows.map((entry) => [entry.id, entry]));
    for (const block of blocks) {
      const ids = block.entry_ids.map(BigInt);
      const first = ids[0] ?? "none";
      if (block.number !== previous.number + 1n)
        return broken(first, `the blocks ${previous.number + 1n} to ${block.number - 1n} before it are missing`);
      for (const [index, id] of ids.entries()) {
        const entry = stored.get(id);
        if (!entry) return broken(id, "it was deleted");
        if (!block.entry_hashes[index]?.equals(hashEntry(entry))) return broken(id, "it was changed after it was sealed");
      }
      if (!block.previous_hash.equals(previous.hash)) return broken(first, `block ${block.number} does not follow the block before it`);
      if (!block.hash.equals(hashBlock({ ...block, entry_ids: ids })))
        return broken(first, `block ${block.number} was changed or its entries reordered`);
      foundExpected ||= expectedHead === `${block.number}:${block.hash.toString("hex")}`;
      entries += ids.length;
      previous = block;
    }
  }
  if (!foundExpected) return broken("none", "the expected head is not in the chain: its end was cut off, or it was made anew");
  const { rows: loose } = await pool.query<{ id: bigint }>(
    `select id from audit_entries
     except select unnest(entry_ids) from audit_blocks
     except select entry_id from audit_unsealed
     order by id limit 1`,
  );
  if (loose[0]) return broken(loose[0].id, "it was added behind the chain's back");
  const { rows: waiting } = await pool.query<{ count: number }>("select count(*)::int as count from audit_unsealed");
  const head = `${previous.number}:${previous.hash.toString("hex")}`;
  return { intact: true, entries, blocks: Number(previous.number), unsealed: waiting[0]?.count ?? 0, head };
}

/**
 * The command; `--expect number:hash` gives the expected head. Prints the report as JSON and exits with 1 if the chain
 * is broken.
 */
export async function runAuditVerification(): Promise<void> {
  const config = readEnvironment({ LOG_LEVEL: commonConfig.LOG_LEVEL, ...databaseConfig });
  const pool = new Pool({ ...connectionConfig(databaseSettings(config)), max: 1 });
  const flag = process.argv.indexOf("--expect");
  const [, service = ""] = new URL(config.DATABASE_URL).pathname.split("/");
  const verify = () => verifyAudit(pool, flag === -1 ? undefined : process.argv[flag + 1]);
  const report = await inCommand(service, "verify-audit", verify);
  await pool.end();
  process.stdout.write(`${JSON.stringify(report)}\n`);
  process.exitCode = report.intact ? 0 : 1;
}

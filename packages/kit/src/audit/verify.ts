/** Verification of the audit chain, and the command `node services/<name>/src/commands/verify-audit.ts`. */
import { createHash } from "node:crypto";
import { existsSync } from "node:fs";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { Pool } from "pg";
import { noted } from "../checks.ts";
import { commonConfig, databaseConfig, readEnvironment } from "../config.ts";
import { createLogger } from "../log.ts";
import { connectionConfig, databaseSettings } from "../postgres/database.ts";
import { inCommand } from "../telemetry/command.ts";
import { type AuditTables, entryColumns, noHash } from "./audit.ts";
import { type KnownBlocks, knownHead, readKnownBlocks } from "./heads.ts";
import { readTombstones, type Tombstones } from "./tombstones.ts";

type StoredEntry = { id: bigint; occurred_us: string; actor: string; action: string; subject: string; request_id: string; details: string };
type Block = Omit<AuditTables["audit_blocks"], "sealed_at" | "month">;

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

type Previous = Pick<Block, "number" | "hash">;
type Break = Extract<AuditReport, { intact: false }>;

const broken = (entryId: bigint | string, problem: string): Break => ({ intact: false, entryId: String(entryId), problem });

/** The next blocks with their entries. Twenty hold at most 20,000 entries. */
async function readBlocks(pool: Pool, after: bigint, limit = 20): Promise<{ blocks: Block[]; stored: Map<bigint, StoredEntry> }> {
  const { rows: blocks } = await pool.query<Block>(
    "select number, entry_ids, entry_hashes, previous_hash, hash from audit_blocks where number > $1 order by number limit $2",
    [after, limit],
  );
  const { rows } = await pool.query<StoredEntry>(`select ${entryColumns} from audit_entries where id = any($1)`, [
    blocks.flatMap((block) => block.entry_ids.map(BigInt)),
  ]);
  return { blocks, stored: new Map(rows.map((entry) => [entry.id, entry])) };
}

/** What is wrong with a block: with its entries, with its place behind the block before, or with itself. */
function faultOf(block: Block, previous: Previous, stored: Map<bigint, StoredEntry>): Break | undefined {
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
  return undefined;
}

/**
 * Verifies the whole chain and names the first entry that was changed, deleted, added or reordered.
 * @param known what is known of blocks from outside the database; if the chain does not have them, its end was removed
 * or it was rebuilt
 */
export async function verifyAudit(pool: Pool, known: KnownBlocks = new Map()): Promise<AuditReport> {
  const tombstones = await readTombstones(pool);
  let previous: Previous = { number: 0n, hash: noHash };
  let entries = 0;
  for (;;) {
    const { blocks, stored } = await readBlocks(pool, previous.number);
    if (blocks.length === 0) break;
    for (const block of blocks) {
      previous = skipDropped(tombstones, previous, block.number);
      const fault = contradiction(known, previous) ?? faultOf(block, previous, stored) ?? contradiction(known, block);
      if (fault) return fault;
      tombstones.verified(block.entry_ids.map(BigInt));
      entries += block.entry_ids.length;
      previous = block;
    }
  }
  const unproven = tombstones.unsealed();
  if (unproven !== undefined)
    return broken(unproven, "it says that a month was dropped, and is not sealed; if it is new, try again in a second");
  const missing = [...known.keys()].find((number) => number > previous.number);
  if (missing !== undefined)
    return broken("none", `the chain has no block ${missing}, of ${known.get(missing)?.from}: its end was cut off`);
  const { rows: loose } = await pool.query<{ id: bigint }>(
    `select id from audit_entries
     except select unnest(entry_ids) from audit_blocks
     except select entry_id from audit_unsealed
     order by id limit 1`,
  );
  if (loose[0]) return broken(loose[0].id, "it was added behind the chain's back");
  const { rows: waiting } = await pool.query<{ count: number }>("select count(*)::int as count from audit_unsealed");
  return { intact: true, entries, blocks: Number(previous.number), unsealed: waiting[0]?.count ?? 0, head: headOf(previous) };
}

/** What is known otherwise of a block, also of the last one of a month that was dropped. */
function contradiction(known: KnownBlocks, { number, hash, entry_ids }: Previous & Partial<Block>): Break | undefined {
  const claim = known.get(number);
  if (!claim || hash.subarray(0, claim.hash.length).equals(claim.hash)) return undefined;
  return broken(entry_ids?.[0] ?? "none", `block ${number} is not the one of ${claim.from}: the chain was made anew`);
}

/** Where the chain goes on in front of a block, after months that were dropped. */
function skipDropped(tombstones: Tombstones, previous: Previous, next: bigint): Previous {
  let at = previous;
  while (at.number + 1n < next) {
    const behind = tombstones.skip(at);
    if (!behind) break;
    at = behind;
  }
  return at;
}

const headOf = ({ number, hash }: Previous) => `${number}:${hash.toString("hex")}`;

/**
 * The verification of some blocks. Who verifies all ranges compares the hash in `head` with the next `previousHash`.
 */
type RangeReport = { from: string; to: string; entries: number } & (
  | { intact: true; previousHash?: string; head?: string }
  | { intact: false; entryId: string; problem: string }
);

/** Verifies up to `count` blocks from one on. It takes as long as they have entries, however long the chain is. */
export async function verifyBlocks(pool: Pool, from: bigint, count: number): Promise<RangeReport> {
  const tombstones = await readTombstones(pool);
  const { rows } = await pool.query<Previous>("select number, hash from audit_blocks where number = $1", [from - 1n]);
  const before = rows[0] ?? tombstones.before(from) ?? { number: from - 1n, hash: noHash };
  let previous = before;
  let entries = 0;
  const report = () => ({ from: String(from), to: String(previous.number), entries });
  while (previous.number < from + BigInt(count) - 1n) {
    const left = Number(from + BigInt(count) - 1n - previous.number);
    const { blocks, stored } = await readBlocks(pool, previous.number, Math.min(left, 20));
    if (blocks.length === 0) break;
    for (const block of blocks) {
      previous = skipDropped(tombstones, previous, block.number);
      const fault = faultOf(block, previous, stored);
      if (fault) return { ...report(), ...fault };
      entries += block.entry_ids.length;
      previous = block;
    }
  }
  if (previous === before) return { ...report(), intact: true };
  return { ...report(), intact: true, previousHash: before.hash.toString("hex"), head: headOf(previous) };
}

/**
 * The command. `--expect` gives what is known from outside: a head as `number:hash`, a file with a published head, or
 * the directory of all; for these, `--key` is the file of the public key. Prints the report as JSON and exits with 1 if
 * the chain is broken.
 */
export async function runAuditVerification(service: string): Promise<void> {
  const config = readEnvironment({ LOG_LEVEL: commonConfig.LOG_LEVEL, ...databaseConfig });
  const { expect, key } = parseArgs({ options: { expect: { type: "string" }, key: { type: "string" } } }).values;
  const pool = new Pool({ ...connectionConfig(databaseSettings(config)), max: 1 });
  const note = { pool, check: "audit_chain", log: createLogger(service, config.LOG_LEVEL) } as const;
  const isIntact = (found: { intact: boolean }) => found.intact;
  const verify = async () => {
    const known = expect === undefined ? undefined : await expected(service, expect, key);
    return noted(note, () => verifyAudit(pool, known), isIntact);
  };
  const report = await inCommand(service, "verify-audit", verify, (found) => (isIntact(found) ? 0 : 1));
  await pool.end();
  process.stdout.write(`${JSON.stringify(report)}\n`);
}

/** @throws Error if there is no such head, or no key that has signed it */
async function expected(service: string, head: string, keyFile: string | undefined): Promise<KnownBlocks> {
  const noted = knownHead(head);
  if (noted) return noted;
  if (keyFile === undefined) throw new Error("say which public key has signed the heads: --key public.pem");
  // The directory of the job has a directory for each service.
  const own = join(head, service);
  return readKnownBlocks(existsSync(own) ? own : head, keyFile, service);
}

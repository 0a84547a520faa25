/** What is left of months that were dropped: an entry of the trail each, sealed like every other one. */
import type { Pool } from "pg";

export const dropAction = "audit.month_dropped";

/** Blocks that were dropped together, and the hashes by which the rest of the chain is proven. */
export type DroppedBlocks = { from: string; to: string; previousHash: string; hash: string };

type Place = { number: bigint; hash: Buffer };

export type Tombstones = {
  /** The last block of a dropped range that begins behind a place; undefined if there is none. */
  skip(previous: Place): Place | undefined;
  /** Where a verification begins that would begin within, or right behind, a range that was dropped. */
  before(number: bigint): Place | undefined;
  /** The first entry that was relied on and is in none of the blocks that were verified. */
  unsealed(): bigint | undefined;
  /** Notes entries of a block that was verified. */
  verified(entryIds: bigint[]): void;
};

export async function readTombstones(pool: Pool): Promise<Tombstones> {
  const { rows } = await pool.query<{ id: bigint; details: { blocks: DroppedBlocks[] } }>(
    "select id, details from audit_entries where action = $1",
    [dropAction],
  );
  const ranges = rows.flatMap(({ id, details }) =>
    details.blocks.map(({ from, to, previousHash, hash }) => ({
      ...{ id, from: BigInt(from), to: BigInt(to), previousHash, hash: Buffer.from(hash, "hex") },
    })),
  );
  const tombstones = new Set(rows.map(({ id }) => id));
  const used = new Set<bigint>();
  const sealed = new Set<bigint>();
  const use = (range: (typeof ranges)[number] | undefined): Place | undefined => {
    if (range) used.add(range.id);
    return range && { number: range.to, hash: range.hash };
  };
  return {
    skip: ({ number, hash }) => use(ranges.find(({ from, previousHash }) => from === number + 1n && previousHash === hash.toString("hex"))),
    before: (number) => use(ranges.find(({ from, to }) => from < number && number <= to + 1n)),
    unsealed: () => [...used].find((id) => !sealed.has(id)),
    verified(entryIds) {
      for (const id of entryIds) if (tombstones.has(id)) sealed.add(id);
    },
  };
}

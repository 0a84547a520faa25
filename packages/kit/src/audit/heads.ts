/**
 * Published heads. Somebody who can write everything in a database can build its whole chain again. So a job, and no
 * service, signs the head of each chain every hour, by a key that no service and no database has, and keeps it where
 * neither can write. A head also has the beginnings of the hashes of all blocks since the head before, so that a
 * verification names the first block that differs.
 */
import { createPrivateKey, createPublicKey, type KeyObject } from "node:crypto";
import { mkdirSync, readdirSync, readFileSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { CompactSign, calculateJwkThumbprint, compactVerify, exportJWK } from "jose";
import { Pool } from "pg";
import { z } from "zod";
import { commonConfig, databaseConfig, readEnvironment } from "../config.ts";
import { connectionConfig, databaseSettings } from "../postgres/database.ts";
import { inCommand } from "../telemetry/command.ts";

const type = "audit-head";
const prefixBytes = 8;

const headSchema = z.object({
  service: z.string(),
  /** Of the last block. */
  number: z.string().regex(/^\d+$/).transform(BigInt),
  hash: z.hex().length(64),
  time: z.iso.datetime(),
  /** The first 8 bytes of the hash of each block up to this one, beginning after the head before. */
  prefixes: z.base64url(),
});
type Head = z.output<typeof headSchema>;

type Block = { number: bigint; hash: Buffer; previous_hash: Buffer };

/** At most so many blocks share a head. */
const blocksOfHead = 100_000;

/**
 * Signs the head of a chain, and writes it as a new file of the directory.
 * @throws Error if the chain no longer has the head before: then it was changed or cut off
 */
export async function publishHead(pool: Pool, options: { service: string; key: KeyObject; directory: string; now: Date }): Promise<Head> {
  const { service, key, directory, now } = options;
  mkdirSync(directory, { recursive: true });
  const published = (await readHeads(directory, { service, key: createPublicKey(key) })).at(-1);
  // That of an empty chain is of no block.
  const last = published && published.number > 0n ? published : undefined;
  const read = (after: bigint, limit: number) =>
    pool.query<Block>("select number, hash, previous_hash from audit_blocks where number >= $1 order by number limit $2", [after, limit]);
  const { rows } = await read(last?.number ?? 1n, blocksOfHead);
  const isThere = last !== undefined && rows[0]?.number === last.number;
  const blocks = isThere ? rows.slice(1) : rows;
  // The month of that block may be dropped by now. The next one names it.
  if (last && (isThere ? rows[0]?.hash : rows[0]?.previous_hash)?.toString("hex") !== last.hash)
    throw new Error(`block ${last.number} of ${service} is not the one whose head was published at ${last.time}: verify the chain`);
  const newest = blocks.at(-1);
  const head = {
    ...{
      service,
      number: String(newest?.number ?? last?.number ?? 0n),
      hash: newest?.hash.toString("hex") ?? last?.hash ?? "0".repeat(64),
    },
    ...{ time: now.toISOString(), prefixes: Buffer.concat(blocks.map(({ hash }) => hash.subarray(0, prefixBytes))).toString("base64url") },
  };
  const kid = await calculateJwkThumbprint(await exportJWK(createPublicKey(key)));
  const signed = await new CompactSign(Buffer.from(JSON.stringify(head))).setProtectedHeader({ alg: "ES256", typ: type, kid }).sign(key);
  // Never over another one.
  writeFileSync(join(directory, `${head.time.replaceAll(":", "-")}.jws`), `${signed}\n`, { flag: "wx", flush: true });
  return headSchema.parse(head);
}

/**
 * The heads of a file or a directory, in the order of time.
 * @throws Error if the key has not signed one of them, or if it is of another service
 */
async function readHeads(path: string, { service, key }: { service: string; key: KeyObject }): Promise<Head[]> {
  const files = statSync(path).isDirectory()
    ? readdirSync(path)
        .filter((name) => name.endsWith(".jws"))
        .sort()
        .map((name) => join(path, name))
    : [path];
  return Promise.all(
    files.map(async (file) => {
      const { payload, protectedHeader } = await compactVerify(readFileSync(file, "utf8").trim(), key, { algorithms: ["ES256"] }).catch(
        (cause: unknown) => {
          throw new Error(`${file} is not signed by this key`, { cause });
        },
      );
      const head = headSchema.parse(JSON.parse(Buffer.from(payload).toString()));
      if (protectedHeader.typ !== type || head.service !== service) throw new Error(`${file} is no head of the trail of ${service}`);
      return head;
    }),
  );
}

/** What is known of blocks from outside the database: the beginnings of their hashes, and when they were published. */
export type KnownBlocks = Map<bigint, { hash: Buffer; from: string }>;

/** A head as `number:hash`, which was noted before. Undefined if it is none. */
export function knownHead(text: string): KnownBlocks | undefined {
  const [, number, hash] = /^(\d+):([0-9a-f]{64})$/.exec(text) ?? [];
  return number && hash ? new Map([[BigInt(number), { hash: Buffer.from(hash, "hex"), from: "the head that was noted" }]]) : undefined;
}

/** What heads say about blocks. */
export async function readKnownBlocks(path: string, keyFile: string, service: string): Promise<KnownBlocks> {
  const key = createPublicKey(readFileSync(keyFile));
  const known: KnownBlocks = new Map();
  for (const { number, hash, time, prefixes } of await readHeads(path, { service, key })) {
    const all = Buffer.from(prefixes, "base64url");
    const count = all.length / prefixBytes;
    for (let index = 0; index < count; index++)
      known.set(number - BigInt(count - 1 - index), {
        ...{ hash: all.subarray(index * prefixBytes, (index + 1) * prefixBytes), from: `the head of ${time}` },
      });
    if (number > 0n) known.set(number, { hash: Buffer.from(hash, "hex"), from: `the head of ${time}` });
  }
  return known;
}

/** The command of the job. It prints the head as JSON, without the hashes of the blocks. */
export async function runPublishHead(service: string): Promise<void> {
  const config = readEnvironment({
    LOG_LEVEL: commonConfig.LOG_LEVEL,
    ...databaseConfig,
    AUDIT_HEAD_KEY: z.string().min(1),
    AUDIT_HEAD_DIRECTORY: z.string().min(1),
  });
  const pool = new Pool({ ...connectionConfig(databaseSettings(config)), max: 1 });
  const directory = join(config.AUDIT_HEAD_DIRECTORY, service);
  try {
    const head = await inCommand(service, "publish-audit-head", () =>
      publishHead(pool, { service, key: createPrivateKey(config.AUDIT_HEAD_KEY), directory, now: new Date() }),
    );
    process.stdout.write(`${JSON.stringify({ service, number: String(head.number), hash: head.hash, time: head.time })}\n`);
  } finally {
    await pool.end();
  }
}

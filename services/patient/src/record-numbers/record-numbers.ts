/**
 * Medical record numbers. Every patient has one, which people read to each other over the phone: a prefix, a number
 * from a sequence, and a check digit that shows a wrong digit and two digits that changed places (ISO 7064, MOD 11,10).
 */
import { setTimeout as delay } from "node:timers/promises";
import type { Lifecycle } from "@pm/kit/lifecycle";
import type { Logger } from "@pm/kit/log";
import type { DatabaseSettings } from "@pm/kit/postgres/database";
import { runAsLeader } from "@pm/kit/postgres/leader";
import type { PatientDatabase } from "../database.ts";
import { findUnnumbered, freeNumbers, giveNumbers, nextOfSequence } from "./store.ts";

/** Numbers of a process that are not used yet: it takes a block at a time, twice as many as before. */
const firstBlock = 8;
const largestBlock = 1_000;

/** The check digit of a text of digits. */
export function checkDigit(digits: string): number {
  let product = 10;
  for (const digit of digits) {
    const sum = (Number(digit) + product) % 10 || 10;
    product = (sum * 2) % 11;
  }
  return (11 - product) % 10;
}

type Options = {
  db: PatientDatabase;
  /** Letters before the number. */
  prefix: string;
  /** The first number, without its check digit. */
  start: number;
};

export type RecordNumbers = ReturnType<typeof createRecordNumbers>;

/** A supply of numbers that no patient has. A number that is taken from the sequence and not used is lost. */
export function createRecordNumbers(options: Options) {
  let supply: string[] = [];
  let size = firstBlock;
  let refilling: Promise<void> | undefined;

  async function refill(): Promise<void> {
    supply = await takeNumbers(options, size);
    size = Math.min(size * 2, largestBlock);
  }

  return {
    /** The next number. Patients got it in the meantime only if somebody brought it. */
    async next(): Promise<string> {
      for (;;) {
        const number = supply.shift();
        if (number !== undefined) return number;
        refilling ??= refill().finally(() => {
          refilling = undefined;
        });
        await refilling;
      }
    },

    /** Forgets the supply, because somebody brought one of its numbers and may have brought more. */
    clear(): void {
      supply = [];
    },
  };
}

/** Numbers in ascending order, without those that imports brought. */
async function takeNumbers({ db, prefix, start }: Options, count: number): Promise<string[]> {
  const positions = await nextOfSequence(db.pool, count);
  const numbers = positions.map((position) => {
    const digits = String(BigInt(start) - 1n + position);
    return `${prefix}${digits}${checkDigit(digits)}`;
  });
  return freeNumbers(db.pool, numbers);
}

/** How many patients get a number in a transaction. Their rows are locked for some milliseconds. */
const batchSize = 200;
/** The job uses a fifth of a core at most. */
const shareOfCore = 0.2;

/**
 * Gives a number to each patient who was registered before there were record numbers, or by a replica of the version
 * before. It walks through the patients once after each start, then looks at new ones, whose ids come later.
 */
export function startNumbering(options: Options & { settings: DatabaseSettings; log: Logger; lifecycle: Lifecycle }): void {
  const { db, settings, log, lifecycle } = options;
  const stop = new AbortController();
  lifecycle.onClose("numbering_pause", () => stop.abort());
  let after = "00000000-0000-0000-0000-000000000000";
  let given = 0;
  runAsLeader({
    ...{ name: "record_numbers", settings, pool: db.pool, log, lifecycle },
    pollMs: 60_000,
    async step(client) {
      const started = performance.now();
      const { ids, last } = await findUnnumbered(client, after, batchSize);
      const numbers = ids.length === 0 ? [] : await takeNumbers(options, ids.length);
      // If an import brought some of the numbers, the last patients wait for the next step.
      const numbered = ids.slice(0, numbers.length);
      if (numbered.length > 0) await giveNumbers(client, numbered, numbers);
      given += numbered.length;
      after = numbered.length < ids.length ? (numbered.at(-1) ?? after) : (last ?? after);
      if (last === undefined) {
        if (given > 0) log.info({ patients: given }, "patients without a record number got one");
        given = 0;
        return "idle";
      }
      await delay((performance.now() - started) * (1 / shareOfCore - 1), undefined, { signal: stop.signal }).catch(() => undefined);
      return "more";
    },
  });
}

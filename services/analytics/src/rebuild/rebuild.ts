/**
 * Makes the roll-ups anew from the log, beside those that count, and swaps them when they have caught up. Reports and
 * ingestion go on meanwhile; ingestion stands still only for the last few events and the swap.
 */

import { AppError } from "@pm/kit/errors";
import { lockGroup } from "@pm/kit/kafka/dead-letter-store";
import type { Logger } from "@pm/kit/log";
import { readEvent } from "../ingest/event.ts";
import { subjectsOf, tallyChange, tallySubject } from "../ingest/patient-facts.ts";
import { createBulkTally, createTally, type Facts, profileMeasure, type Tally } from "../rollups/aggregate.ts";
import { activeGeneration, addToRollups, collectSums, type Db, eventsOfSubjects } from "../rollups/store.ts";
import type { RollupRow } from "../rollups/types.ts";
import {
  activate,
  clearRollups,
  countEvents,
  eventsOfSubject,
  findRebuild,
  insertRebuild,
  latestSeq,
  nextBySubject,
  nextInLog,
  nextWithoutSubject,
  noteRebuildDone,
  noteRebuildProgress,
  noteRebuildStarted,
  openRebuild,
  type RebuildRow,
  relatedBetween,
} from "./store.ts";

export type Rebuild = {
  id: string;
  state: RebuildRow["state"];
  eventsDone: number;
  eventsTotal: number;
  requestedAt: string;
  startedAt: string | null;
  finishedAt: string | null;
};

export type Rebuilds = {
  /** Asks for a rebuild. @throws AppError failed_precondition while another one is open. */
  request(): Promise<Rebuild>;
  /** @throws AppError not_found. */
  get(id: string): Promise<Rebuild>;
  /** Works on the open rebuild, if there is one, to its end. One process at a time may call this. */
  step(): Promise<"more" | "done">;
};

const chunk = 2_000;
/** So many pages of sums, of about 1 kB each, are held before they are written: some years of all that has no place in it. */
const maxPages = 50_000;
/** Of what is hardly ever twice the same, so many. */
const maxSingles = 10_000;
const noteProgressMs = 1_000;
/** The final pass, with ingestion waiting, has at most so many events. */
const lastPass = 1_000;
const noSubject = "00000000-0000-0000-0000-000000000000";

export function createRebuilds(options: { db: Db; groupId: string; log: Logger }): Rebuilds {
  const { db, groupId, log } = options;

  /** The end of the log, with nothing under way before it. */
  const settledSeq = () =>
    db.transaction().execute(async (transaction) => {
      await lockGroup(transaction, groupId);
      return latestSeq(transaction);
    });

  async function rebuild({ id }: RebuildRow): Promise<void> {
    const started = Date.now();
    const generation = 1 - (await activeGeneration(db));
    await clearRollups(db, generation);
    const boundary = await settledSeq();
    await noteRebuildStarted(db, id, await countEvents(db));
    let done = 0n;
    let noted = 0;
    const progress = async (events: number) => {
      done += BigInt(events);
      if (Date.now() - noted < noteProgressMs) return;
      noted = Date.now();
      await noteRebuildProgress(db, id, done);
    };

    const sums = createBulkTally();
    // Hardly two people are alike: their profiles would fill the memory without getting fewer by waiting.
    const singles = createTally();
    const facts: Facts = {
      onDate: sums.onDate,
      holds: singles.holds,
      atInstant: (measure, ...rest) => (measure === profileMeasure ? singles : sums).atInstant(measure, ...rest),
    };
    const count = async (events: number, limits = { pages: maxPages, singles: maxSingles }) => {
      if (singles.size > limits.singles) await writeOut(db, generation, singles);
      if (sums.size > limits.pages) await writeOut(db, generation, sums);
      await progress(events);
    };
    for await (const patients of byPatient(db, boundary)) {
      for (const [patient, events] of patients.groups) tallySubject(patient, events, facts, 1n);
      await count(patients.count);
    }
    for (let after = 0n; ; ) {
      const rows = await nextWithoutSubject(db, after, boundary, chunk);
      if (rows.length === 0) break;
      tallyChange(rows.map(readEvent), [], facts);
      after = rows.at(-1)?.seq ?? after;
      await count(rows.length);
    }
    await count(0, { pages: 0, singles: 0 });

    // What came in meanwhile; then the rest and the swap while ingestion waits.
    let caughtUp = boundary;
    for (let end = await settledSeq(); end - caughtUp > BigInt(lastPass); end = await settledSeq()) {
      await progress(await catchUp(db, generation, caughtUp, end));
      caughtUp = end;
    }
    await db.transaction().execute(async (transaction) => {
      await lockGroup(transaction, groupId);
      await catchUp(transaction, generation, caughtUp, await latestSeq(transaction));
      await activate(transaction, generation);
      await noteRebuildDone(transaction, id);
    });
    log.info({ rebuild: String(id), events: String(done), seconds: (Date.now() - started) / 1_000 }, "the roll-ups were rebuilt");
  }

  return {
    async request() {
      const row = await insertRebuild(db);
      if (row) return toRebuild(row);
      const open = await openRebuild(db);
      throw new AppError("failed_precondition", `A rebuild is under way${open ? `: GET /analytics/rebuilds/${open.id}` : ""}.`);
    },
    async get(id) {
      const row = await findRebuild(db, BigInt(id));
      if (!row) throw new AppError("not_found", "There is no rebuild with this id.");
      return toRebuild(row);
    },
    async step() {
      const open = await openRebuild(db);
      if (open) await rebuild(open);
      return "done";
    },
  };
}

type Patients = { groups: Map<string, ReturnType<typeof readEvent>[]>; count: number };

/** The log by patient: whole patients only, in chunks. */
async function* byPatient(db: Db, upTo: bigint): AsyncGenerator<Patients> {
  for (let after = noSubject; ; ) {
    let rows = await nextBySubject(db, after, upTo, chunk);
    if (rows.length === 0) {
      // Records that exist only on the other side of a merge count for nothing.
      return;
    }
    if (rows.length === chunk) {
      // The last patient may go on beyond the chunk.
      const cut = rows.at(-1)?.subject ?? "";
      const whole = rows.filter((row) => row.subject !== cut);
      rows = whole.length > 0 ? whole : await eventsOfSubject(db, cut, upTo);
    }
    const last = rows.at(-1)?.subject ?? after;
    const groups: Patients["groups"] = new Map();
    for (const row of rows) {
      const group = groups.get(row.subject);
      if (group) group.push(readEvent(row));
      else groups.set(row.subject, [readEvent(row)]);
    }
    for (const row of await relatedBetween(db, after, last, upTo)) {
      const event = readEvent(row);
      if (event.related !== null) groups.get(event.related)?.push(event);
    }
    yield { groups, count: rows.length };
    after = last;
  }
}

/** Adds what the events between two places of the log changed, and says how many they were. */
async function catchUp(db: Db, generation: number, from: bigint, to: bigint): Promise<number> {
  let count = 0;
  for (let after = from; after < to; ) {
    const rows = await nextInLog(db, after, to, lastPass);
    if (rows.length === 0) break;
    const fresh = rows.map(readEvent);
    const subjects = [...new Set(fresh.flatMap(subjectsOf))];
    const known = subjects.length === 0 ? [] : (await eventsOfSubjects(db, subjects, after)).map(readEvent);
    after = rows.at(-1)?.seq ?? to;
    const tally = createTally();
    tallyChange(fresh, known, tally);
    await writeOut(db, generation, tally);
    count += rows.length;
  }
  return count;
}

async function writeOut(db: Db, generation: number, tally: Pick<Tally, "rows" | "clear">): Promise<void> {
  let rows: RollupRow[] = [];
  for (const row of tally.rows()) {
    rows.push(row);
    if (rows.length === chunk) {
      await addToRollups(db, generation, collectSums(rows));
      rows = [];
    }
  }
  await addToRollups(db, generation, collectSums(rows));
  tally.clear();
}

function toRebuild(row: RebuildRow): Rebuild {
  return {
    id: String(row.id),
    state: row.state,
    eventsDone: Number(row.events_done),
    eventsTotal: Number(row.events_total),
    requestedAt: row.requested_at.toISOString(),
    startedAt: row.started_at?.toISOString() ?? null,
    finishedAt: row.finished_at?.toISOString() ?? null,
  };
}

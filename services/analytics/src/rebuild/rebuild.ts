/**
 * Builds the roll-ups again from the log, in the generation that reports do not read, and switches reports to it when
 * it has caught up. Reports and ingestion continue meanwhile. Ingestion waits only for the last events and the switch.
 */
import { AppError } from "@pm/kit/errors";
import { lockGroup } from "@pm/kit/kafka/dead-letter-store";
import type { Logger } from "@pm/kit/log";
import { inTransaction, type Queries } from "@pm/kit/postgres/transaction";
import { countErasures } from "../erasure/store.ts";
import { type LoggedEvent, readEvent } from "../ingest/event.ts";
import { addChangedFacts, addPatientFacts, patientsOf } from "../ingest/patient-facts.ts";
import { eventsOfPatients, latestSeq, settledSeq } from "../ingest/store.ts";
import { measures } from "../measures.ts";
import { type Aggregate, createAggregate, createBulkAggregate, type Facts } from "../rollups/aggregate.ts";
import { activeGeneration, addToRollups, collectChanges } from "../rollups/store.ts";
import type { RollupRow } from "../rollups/types.ts";
import type { AnalyticsDatabase, Db } from "../tables.ts";
import {
  activate,
  clearIdleRollups,
  clearRollups,
  countEvents,
  eventsOfPatient,
  findRebuild,
  insertRebuild,
  mergesOfOthers,
  nextByPatient,
  nextInLog,
  nextWithoutPatient,
  noteRebuildDone,
  noteRebuildProgress,
  noteRebuildStarted,
  openRebuild,
  type RebuildRow,
} from "./store.ts";

type Rebuild = {
  id: string;
  state: RebuildRow["state"];
  eventsDone: number;
  eventsTotal: number;
  requestedAt: string;
  startedAt: string | null;
  finishedAt: string | null;
};

export type Rebuilds = {
  /**
   * Requests a rebuild.
   * @param also what is done in the same transaction, such as an audit entry
   * @throws AppError failed_precondition while another one is open
   */
  request(also?: (tx: Queries, id: string) => Promise<void>): Promise<Rebuild>;
  /** @throws AppError not_found */
  get(id: string): Promise<Rebuild>;
  /** Does the open rebuild, if there is one. Only one process at a time may call this. */
  step(): Promise<"done">;
};

type Options = { db: AnalyticsDatabase; groupId: string; log: Logger };

/** How many events, or rows, are read or written at once. */
const chunkSize = 2_000;
/** How many pages of sums, of about 1 kB each, are held in memory before they are written. */
const maxPages = 50_000;
/** How many profiles are held in memory: hardly two are alike, so holding more would not make them fewer. */
const maxProfiles = 10_000;
/** How many events the last pass has at most. Ingestion waits for it. */
const lastPassSize = 1_000;
const noteProgressMs = 1_000;
const lowestId = "00000000-0000-0000-0000-000000000000";

export function createRebuilds(options: Options): Rebuilds {
  const { db } = options;
  const { kysely } = db;
  return {
    async request(also) {
      const row = await inTransaction(db, async (tx) => {
        const inserted = await insertRebuild(tx.kysely);
        if (inserted) await also?.(tx, String(inserted.id));
        return inserted;
      });
      if (row) return toRebuild(row);
      const open = await openRebuild(kysely);
      throw new AppError("failed_precondition", `A rebuild is under way${open ? `: GET /analytics/rebuilds/${open.id}` : ""}.`);
    },
    async get(id) {
      const row = await findRebuild(kysely, BigInt(id));
      if (!row) throw new AppError("not_found", "There is no rebuild with this id.");
      return toRebuild(row);
    },
    async step() {
      const open = await openRebuild(kysely);
      if (open) while (!(await rebuild(options, open)));
      else await clearIdleRollups(kysely);
      return "done";
    },
  };
}

/**
 * Returns false if a patient was erased meanwhile. What was read of them before is not what is stripped from their
 * events now, so the rebuild begins again.
 */
async function rebuild(options: Options, { id }: RebuildRow): Promise<boolean> {
  const { db, groupId, log } = options;
  const { kysely } = db;
  const started = Date.now();
  const generation = 1 - (await activeGeneration(kysely));
  await clearRollups(kysely, generation);
  let caughtUp = await settledSeq(db, groupId);
  const erasures = await countErasures(kysely);
  await noteRebuildStarted(kysely, id, await countEvents(kysely));
  const progress = createProgress(kysely, id);
  await addLog(kysely, generation, caughtUp, progress.add);

  for (let end = await settledSeq(db, groupId); end - caughtUp > BigInt(lastPassSize); end = await settledSeq(db, groupId)) {
    await progress.add(await catchUp(kysely, generation, caughtUp, end));
    caughtUp = end;
  }
  const isDone = await inTransaction(db, async ({ kysely: tx }) => {
    await lockGroup(tx, groupId);
    if ((await countErasures(tx)) !== erasures) return false;
    await catchUp(tx, generation, caughtUp, await latestSeq(tx));
    await activate(tx, generation);
    await noteRebuildDone(tx, id);
    return true;
  });
  if (!isDone) return false;
  const seconds = (Date.now() - started) / 1_000;
  log.info({ rebuild: String(id), events: String(progress.done()), seconds }, "the roll-ups were rebuilt");
  return true;
}

function createProgress(db: Db, id: bigint) {
  let done = 0n;
  let notedAt = 0;
  return {
    done: () => done,
    async add(events: number) {
      done += BigInt(events);
      if (Date.now() - notedAt < noteProgressMs) return;
      notedAt = Date.now();
      await noteRebuildProgress(db, id, done);
    },
  };
}

/** Adds the log up to a number to an empty generation. */
async function addLog(db: Db, generation: number, upTo: bigint, noteDone: (events: number) => Promise<void>): Promise<void> {
  const sums = createBulkAggregate();
  const profiles = createAggregate();
  const facts: Facts = {
    onDate: sums.onDate,
    holds: profiles.holds,
    atInstant: (measure, ...rest) => (measure === measures.patients.registeredProfile ? profiles : sums).atInstant(measure, ...rest),
  };
  const write = async (limits = { pages: maxPages, profiles: maxProfiles }) => {
    if (profiles.size > limits.profiles) await writeOut(db, generation, profiles);
    if (sums.size > limits.pages) await writeOut(db, generation, sums);
  };
  for await (const { events, count } of byPatient(db, upTo)) {
    for (const [patientId, own] of events) addPatientFacts(patientId, own, facts, 1n);
    await write();
    await noteDone(count);
  }
  for (let after = 0n; ; ) {
    const rows = await nextWithoutPatient(db, after, upTo, chunkSize);
    if (rows.length === 0) break;
    addChangedFacts(rows.map(readEvent), [], facts);
    after = rows.at(-1)?.seq ?? after;
    await write();
    await noteDone(rows.length);
  }
  await write({ pages: 0, profiles: 0 });
}

type Patients = { events: Map<string, LoggedEvent[]>; count: number };

/**
 * The log by patient, in chunks of whole patients. A record that only merges of other records name counts for nothing.
 */
async function* byPatient(db: Db, upTo: bigint): AsyncGenerator<Patients> {
  for (let after = lowestId; ; ) {
    let rows = await nextByPatient(db, after, upTo, chunkSize);
    if (rows.length === 0) return;
    if (rows.length === chunkSize) {
      // The last patient may have further events.
      const cut = rows.at(-1)?.subject ?? "";
      const whole = rows.filter((row) => row.subject !== cut);
      rows = whole.length > 0 ? whole : await eventsOfPatient(db, cut, upTo);
    }
    const last = rows.at(-1)?.subject ?? after;
    const events: Patients["events"] = new Map();
    for (const row of rows) {
      const own = events.get(row.subject);
      if (own) own.push(readEvent(row));
      else events.set(row.subject, [readEvent(row)]);
    }
    for (const row of await mergesOfOthers(db, after, last, upTo)) {
      const event = readEvent(row);
      if (event.otherPatientId !== null) events.get(event.otherPatientId)?.push(event);
    }
    yield { events, count: rows.length };
    after = last;
  }
}

/** Adds what the events between two numbers of the log change, and returns how many they are. */
async function catchUp(db: Db, generation: number, from: bigint, to: bigint): Promise<number> {
  let count = 0;
  for (let after = from; after < to; ) {
    const rows = await nextInLog(db, after, to, lastPassSize);
    if (rows.length === 0) break;
    const fresh = rows.map(readEvent);
    const patients = [...new Set(fresh.flatMap(patientsOf))];
    const known = patients.length === 0 ? [] : (await eventsOfPatients(db, patients, after)).map(readEvent);
    after = rows.at(-1)?.seq ?? to;
    const aggregate = createAggregate();
    addChangedFacts(fresh, known, aggregate);
    await writeOut(db, generation, aggregate);
    count += rows.length;
  }
  return count;
}

/** Adds the rows of an aggregate to the roll-ups, and empties it. */
async function writeOut(db: Db, generation: number, aggregate: Pick<Aggregate, "rows" | "clear">): Promise<void> {
  let rows: RollupRow[] = [];
  for (const row of aggregate.rows()) {
    rows.push(row);
    if (rows.length === chunkSize) {
      await addToRollups(db, generation, collectChanges(rows));
      rows = [];
    }
  }
  await addToRollups(db, generation, collectChanges(rows));
  aggregate.clear();
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

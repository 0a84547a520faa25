/**
 * Makes the publications: the figures of each week from Monday to Sunday of the clinic's zone, once, a day after the
 * week has ended. They are counted from the log, and not from the roll-ups, so a rebuild changes none of them.
 */
import { addDays, type Instant, type LocalDate, localDateAt, startOfDay } from "@pm/kit/calendar";
import type { Logger } from "@pm/kit/log";
import type { Step } from "@pm/kit/postgres/leader";
import { inTransaction } from "@pm/kit/postgres/transaction";
import { mondayOf } from "../calendar.ts";
import { type LoggedEvent, readEvent } from "../ingest/event.ts";
import { patientsOf } from "../ingest/patient-facts.ts";
import { eventsOfPatients, type NumberedEvent, settledSeq } from "../ingest/store.ts";
import type { AnalyticsDatabase, Db } from "../tables.ts";
import { countEvents } from "./count.ts";
import { addWeek, amountOf, type Counts, decide, partMeasures, weeksToCompare } from "./figures.ts";
import {
  addAccountAmounts,
  clearAccounts,
  countAccounts,
  earliestEvent,
  insertFigures,
  insertPublication,
  lastPublication,
  lastShownParts,
  nextEvents,
  nextLateEvents,
  type Publication,
  waitingFigures,
} from "./store.ts";

type Publisher = {
  /** Makes the oldest publication that is due and missing, if there is one. */
  step(): Promise<Step>;
};

type Options = { db: AnalyticsDatabase; groupId: string; clinicTimeZone: string; now: () => Instant; log: Logger };

/** How many events are counted at once. Requests wait a few milliseconds for so many. */
const chunkSize = 250;
/** How many past weeks the first start publishes: five years. What is older is counted with the first of them. */
const maxPastWeeks = 260;
/** Nothing is older than this. */
const beginning = new Date("1850-01-01T00:00:00Z");

export function createPublisher(options: Options): Publisher {
  const { db, groupId, clinicTimeZone, now, log } = options;
  return {
    async step() {
      const previous = await lastPublication(db.kysely);
      const week = previous ? addDays(previous.week, 7) : await firstWeek(options);
      if (week === undefined || now() < dueAt(week, clinicTimeZone)) return "idle";
      const publication = { week, until: new Date(startOfDay(addDays(week, 7), clinicTimeZone)), seq: await settledSeq(db, groupId) };
      const figures = await inTransaction(db, ({ kysely }) => publish(kysely, publication, previous));
      if (figures) log.info({ week, shown: figures.filter(({ shown }) => shown).length, of: figures.length }, "a week was published");
      return "more";
    },
  };
}

function dueAt(week: LocalDate, timeZone: string): Instant {
  return startOfDay(addDays(week, 8), timeZone);
}

/** The week of the first event, or that from which `maxPastWeeks` are to be published. Undefined without events. */
async function firstWeek({ db, clinicTimeZone, now }: Options): Promise<LocalDate | undefined> {
  const earliest = await earliestEvent(db.kysely);
  if (!earliest) return undefined;
  const first = mondayOf(localDateAt(earliest.getTime(), clinicTimeZone));
  const oldest = addDays(mondayOf(localDateAt(now(), clinicTimeZone)), -7 * maxPastWeeks);
  return [first, oldest].toSorted().at(-1);
}

/** Returns undefined if another process has made the publication meanwhile. */
async function publish(db: Db, publication: Publication, previous: Publication | undefined) {
  if (!(await insertPublication(db, publication))) return undefined;
  const keyOf = (...parts: string[]) => JSON.stringify(parts);
  const counts: Counts = new Map();
  for await (const { fresh, known } of newEvents(db, publication, previous)) {
    await addAccountAmounts(db, countEvents(fresh, known, counts));
  }
  const waiting = previous ? await waitingFigures(db, [previous.week]) : [];
  const lastShown = new Map((await lastShownParts(db, partMeasures)).map(({ measure, value, week }) => [keyOf(measure, value), week]));
  const figures = addWeek(waiting, counts, previous?.week ?? null, (measure, value) => lastShown.get(keyOf(measure, value)) ?? null);
  const earlier = await waitingFigures(db, weeksToCompare(figures));
  const earlierAmounts = new Map(earlier.map(({ week, measure, value, amount }) => [keyOf(week, measure, value), amount]));
  const accounts = new Map((await countAccounts(db)).map(({ measure, value, ...rest }) => [keyOf(measure, value), rest]));
  const decided = decide(figures, {
    accounts: (measure, value) => accounts.get(keyOf(measure, value)) ?? { number: 0, largest: 0n },
    amountAt: (measure, value, week) => earlierAmounts.get(keyOf(week, measure, value)) ?? 0n,
  });
  await insertFigures(db, publication.week, decided);
  await clearAccounts(
    db,
    decided.filter(({ measure, shown }) => shown && amountOf(measure) === measure),
  );
  return decided;
}

type Chunk = { fresh: LoggedEvent[]; known: LoggedEvent[] };

/**
 * The events that this publication has and the previous one has not, each chunk with the events of the same patients
 * that are in the previous one or in chunks before. First come those that were too late for earlier publications.
 */
async function* newEvents(db: Db, { until, seq }: Publication, previous: Publication | undefined): AsyncGenerator<Chunk> {
  const start = previous?.until ?? beginning;
  const read = { late: previous?.seq ?? 0n, own: { occurred_at: start, seq: 0n } };
  const wasRead = (at: Instant, number: bigint): boolean => {
    if (at < start.getTime()) return number <= read.late;
    const edge = read.own.occurred_at.getTime();
    return at < edge || (at === edge && number <= read.own.seq);
  };
  const chunkOf = async (rows: NumberedEvent[]): Promise<Chunk> => {
    const fresh = rows.map(readEvent);
    const patients = [...new Set(fresh.flatMap(patientsOf))];
    const candidates = patients.length === 0 ? [] : await eventsOfPatients(db, patients, seq);
    const known = candidates.flatMap((row) => {
      const event = readEvent(row);
      return wasRead(event.at, row.seq) ? event : [];
    });
    return { fresh, known };
  };
  for (let rows = await nextLateEvents(db, read.late, { seq, until: start }, chunkSize); rows.length > 0; ) {
    yield await chunkOf(rows);
    read.late = rows.at(-1)?.seq ?? seq;
    rows = await nextLateEvents(db, read.late, { seq, until: start }, chunkSize);
  }
  read.late = seq;
  for (let rows = await nextEvents(db, read.own, { seq, until }, chunkSize); rows.length > 0; ) {
    yield await chunkOf(rows);
    read.own = rows.at(-1) ?? read.own;
    rows = await nextEvents(db, read.own, { seq, until }, chunkSize);
  }
}

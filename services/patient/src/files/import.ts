/**
 * Imports: any number of patients in one request, in memory that does not grow with them. Each batch of lines is one
 * transaction together with how far the import is, so that the same file under the same key continues where it stopped.
 */
import { createHash, randomUUIDv7 } from "node:crypto";
import { setImmediate as nextTurn } from "node:timers/promises";
import type { AuditTrail } from "@pm/kit/audit/trail";
import { AppError, type FieldError } from "@pm/kit/errors";
import { type Call, viewerOf } from "../caller.ts";
import type { RecordSettings } from "../config.ts";
import type { PatientDatabase } from "../database.ts";
import { claimsOf } from "../patients/conflicts.ts";
import { registeredEvent } from "../patients/events.ts";
import { rulesAt } from "../patients/fields.ts";
import { hasRecordNumber, withRecordNumber } from "../patients/identifiers.ts";
import type { Patients } from "../patients/patients.ts";
import { emailKeyOf, type FieldChange, importedRecord } from "../patients/record.ts";
import type { Duplicates } from "../patients/registration.ts";
import { searchWords } from "../patients/search.ts";
import { type CollectedPatients, collectPatients, type NewPatient } from "../patients/write-store.ts";
import type { RecordNumbers } from "../record-numbers/record-numbers.ts";
import type { DuplicateMode } from "../tables.ts";
import { findDuplicates, type NewLine } from "./duplicates.ts";
import { type LineDuplicates, readImportDuplicates } from "./duplicates-store.ts";
import { withEntries } from "./lists.ts";
import type { ImportFile, ImportLine } from "./rows.ts";
import { advanceImport, beginImport, cancelledReason, type Imported, type ImportProgress, readImportErrors } from "./store.ts";
import type { ImportMode } from "./tables.ts";
import { createUpdates, errorsOfLine, identifierNames } from "./update.ts";

/** A batch is written when it has this many lines, or its lines and errors this many bytes: usual ones have a third. */
const batchSize = 1_000;
const batchBytes = 1024 * 1024;
/** What an error weighs, with the object that holds it. */
const bytesPerError = 200;
/** After this many lines or bytes, one or two milliseconds, other requests get a turn. */
const linesPerTurn = 25;
const bytesPerTurn = 64 * 1024;
/** How many words of names an import remembers. A million people have fewer, and they take little memory. */
const maxKnownWords = 50_000;
/** This many lines of a dry run show what they would change. */
const maxChanges = 1_000;
type LineChanges = { line: number; id: string; changes: FieldChange[] };

/** How an import ended. Errors are read on demand, since there may be as many as lines. */
export type ImportReport = {
  importId: string;
  dryRun: boolean;
  lines: number;
  created: number;
  updated: number;
  unchanged: number;
  failed: number;
  /** What a dry run would change, of the first lines that change something. */
  changes?: LineChanges[];
  /** Columns of CSV that a record has no field for. */
  ignoredColumns: string[];
  errors: AsyncIterable<{ line: number; errors: FieldError[] }>;
  /** Lines whose patients may be registered already. */
  possibleDuplicates: AsyncIterable<LineDuplicates>;
};

type Batch = {
  imported: (Imported & { names: string[] })[];
  /** Those whom it creates, when it is known at which time. */
  made: ((at: Date) => NewPatient)[];
  patients: CollectedPatients;
  failures: { line: number; errors: FieldError[] }[];
  bytes: number;
  /** Identifiers of the patients that it creates. */
  keys: Set<string>;
  /** Those who may be registered already, and are looked for, by their ids. */
  newcomers: NewLine[];
};

type Options = {
  db: PatientDatabase;
  recordNumbers: RecordNumbers;
  now: () => Date;
  settings: RecordSettings;
  audit: AuditTrail;
  merge: Patients["merge"];
  duplicates: Duplicates;
  /** Called after each commit that wrote events. */
  committed: () => void;
};

/** With a key, an import can be continued. A dry run checks everything and creates nothing. */
type Run = {
  key: string | undefined;
  dryRun: boolean;
  mode: ImportMode;
  duplicates: DuplicateMode;
  transferId: string;
  signal: AbortSignal;
};

export type Imports = ReturnType<typeof createImports>;

export function createImports(options: Options) {
  let running = 0;
  return {
    /** Whether this process is importing. */
    isRunning: () => running > 0,

    /**
     * Imports lines. With a key, a request that was cut off can be sent again, whole, and continues where it stopped; a
     * finished one gives its report again. If the signal aborts, what was stored stays; the error says how far it came.
     * @throws AppError idempotency_key_reused: the key has another file; failed_precondition: it is being imported now
     */
    async run(call: Call, file: ImportFile, run: Run): Promise<ImportReport> {
      running += 1;
      try {
        return await importLines(options, call, file, run);
      } finally {
        running -= 1;
      }
    },
  };
}

async function importLines(options: Options, call: Call, file: ImportFile, run: Run): Promise<ImportReport> {
  const { key, dryRun, mode, transferId, signal } = run;
  const who = { caller: call.actorId, requestId: call.requestId };
  const request = { ...who, id: randomUUIDv7(), key: dryRun ? null : (key ?? null), dryRun, mode, transferId };
  const started = await beginImport(options.db, request);
  const writer = createWriter(options, call, { ...run, columnOf: file.columnOf }, started);
  const hash = createHash("sha256");
  // Under one key, a file is imported in one mode.
  if (mode !== "create") hash.update(`${mode}\n`);
  const position = () => ({ lines: seen, prefixHash: hash.copy().digest() });
  let [seen, bytesOfTurn] = [0, 0];
  try {
    for await (const line of file.lines) {
      signal.throwIfAborted();
      if (seen > started.lines && writer.isAhead(line)) {
        await writer.write({ ...position(), finished: false });
        await writer.settled();
      }
      hash.update(line.text).update("\n");
      seen += 1;
      bytesOfTurn += line.text.length;
      if (seen % linesPerTurn === 0 || bytesOfTurn >= bytesPerTurn) {
        bytesOfTurn = 0;
        await nextTurn();
      }
      if (seen === started.lines && !position().prefixHash.equals(started.prefixHash)) throw otherFile();
      if (seen <= started.lines) continue;
      if (started.finished) throw otherFile();
      if (await writer.add(line)) await writer.write({ ...position(), finished: false });
    }
    if (seen < started.lines) throw otherFile();
    if (!started.finished) await writer.write({ ...position(), finished: true });
    await writer.settled();
  } catch (error) {
    // A caller who sends the file again after an error must not meet the end of this attempt.
    await writer.settled().catch(() => undefined);
    const isCancelled = error instanceof AppError && error.options.reason === cancelledReason;
    const reason = isCancelled ? error : signal.reason;
    throw reason instanceof AppError ? endedBy(reason, run, writer.reached()) : error;
  }
  const { id, prefixHash: _hash, finished: _finished, ...counts } = writer.reached();
  const shown = dryRun && mode !== "create" ? { changes: writer.changes } : {};
  const lists = { errors: readImportErrors(options.db, id), possibleDuplicates: readImportDuplicates(options.db, id) };
  return { importId: id, dryRun, ...counts, ...shown, ignoredColumns: file.ignoredColumns, ...lists };
}

/** Adds the patients that lines create to a batch. */
function createTaker({ recordNumbers, now, settings }: Options, call: Call, { dryRun, duplicates }: Run, knownWords: Set<string>) {
  const viewer = viewerOf(call.caller);
  return async ({ number: line, body, added }: ImportLine, batch: Batch): Promise<void> => {
    const given = importedRecord(added ? withEntries(body as Record<string, unknown>, added) : body, rulesAt(now().getTime(), settings));
    const getsNumber = !dryRun && !hasRecordNumber(given);
    const record = getsNumber ? withRecordNumber(given, await recordNumbers.next()) : given;
    const id = randomUUIDv7();
    const emailKey = emailKeyOf(record, settings);
    const found = searchWords(record);
    const words = { ...found, names: found.names.filter((word) => !knownWords.has(word)) };
    const who = { actor: call.actorId, requestId: call.requestId };
    // Nobody waits for the billing accounts of an import, so the worker opens them.
    batch.made.push((at) => {
      const event = registeredEvent(id, at, call.traceparent, record);
      return { ...who, id, at, action: "imported", record, emailKey, words, event, billingAt: at };
    });
    if (duplicates !== "allow") batch.newcomers.push({ ...who, id, line, viewer, record, words: found });
    batch.imported.push({ line, id, outcome: "created", claims: claimsOf(given, settings), getsNumber, names: words.names });
  };
}

/** Collects lines into a batch, and writes one batch while the next one is collected. */
function createWriter(options: Options, call: Call, run: Run & { columnOf: ImportFile["columnOf"] }, started: ImportProgress) {
  const { db, audit, committed } = options;
  const { dryRun, transferId, signal } = run;
  // The memory of batches that are written, for the next ones.
  const spare: CollectedPatients[] = [];
  // Names repeat: a word that this import has written need not be written again.
  const knownWords = new Set<string>();
  const who = { viewer: viewerOf(call.caller), requestId: call.requestId };
  const stepOptions = { dryRun, transferId, signal, columnOf: run.columnOf, refusesDuplicates: run.duplicates === "refuse" };
  const lists = () => ({ imported: [], made: [], failures: [], newcomers: [] });
  const newBatch = (): Batch => ({ ...lists(), patients: spare.pop() ?? collectPatients(), bytes: 0, keys: new Set() });
  const take = createTaker(options, call, run, knownWords);
  const update = createUpdates(options, call, { ...run, importId: started.id });
  const changes: LineChanges[] = [];
  let batch = newBatch();
  let writing: Batch | undefined;
  let reached = started;
  let progress = Promise.resolve(started);

  async function takeOrUpdate(line: ImportLine): Promise<void> {
    const updated = await update(line);
    if (!updated) {
      await take(line, batch);
      if (run.mode === "upsert") for (const name of identifierNames(line)) batch.keys.add(name);
      return;
    }
    const { patientId, isNew, claims } = updated;
    const isChanged = updated.changes.length > 0;
    if (dryRun && isChanged && changes.length < maxChanges) changes.push({ line: line.number, id: patientId, changes: updated.changes });
    const outcome = isNew || isChanged ? "updated" : "unchanged";
    const entry = { line: line.number, id: randomUUIDv7(), outcome, patientId, getsNumber: false, names: [] } as const;
    // What was changed took its e-mail and its identifiers already.
    batch.imported.push({ ...entry, names: [], claims: dryRun ? claims : [] });
  }

  function rememberWords({ imported }: Batch): void {
    for (const { names } of imported) for (const word of names) if (knownWords.size < maxKnownWords) knownWords.add(word);
  }

  return {
    /** How far the import is stored. */
    reached: () => reached,
    settled: () => progress,
    changes,

    /** Whether the patient whom a line changes is created by a line before it that is not stored yet. */
    isAhead(line: ImportLine): boolean {
      if (run.mode !== "upsert" || line.errors) return false;
      return identifierNames(line).some((name) => batch.keys.has(name) || writing?.keys.has(name));
    },

    /** Adds a line to the batch. Gives whether the batch is to be written. */
    async add(line: ImportLine): Promise<boolean> {
      const errors = line.errors ?? (await takeOrUpdate(line).catch((error: unknown) => errorsOfLine(audit, call, error)));
      if (errors) batch.failures.push({ line: line.number, errors });
      batch.bytes += line.text.length + (errors?.length ?? 0) * bytesPerError;
      return batch.imported.length + batch.failures.length === batchSize || batch.bytes >= batchBytes;
    },

    /** Waits for the batch before, then begins to write this one. */
    async write(position: { lines: number; prefixHash: Buffer; finished: boolean }): Promise<void> {
      const before = await progress;
      const written = batch;
      writing = written;
      batch = newBatch();
      const duplicates = findDuplicates(written.newcomers, options.duplicates, run.duplicates);
      progress = collect(written, options.now())
        .then(() => advanceImport(db, { ...written, ...position, ...who, ...stepOptions, before, duplicates }))
        .finally(committed)
        .then((after) => {
          reached = after;
          // The words of patients that were not created were not written either.
          if (after.created - before.created === written.patients.length) rememberWords(written);
          written.patients.clear();
          spare.push(written.patients);
          return after;
        });
      // The next call that awaits it gets the error. Until then it must not count as unhandled.
      progress.catch(() => undefined);
    },
  };
}

/**
 * A batch of a slow upload waits for its lines. Its patients have the time at which they are written, since nobody who
 * follows by instants looks for those that are older (`readCompleteUntil`).
 */
async function collect({ made, patients }: Batch, at: Date): Promise<void> {
  for (const [index, make] of made.entries()) {
    if (index % linesPerTurn === 0) await nextTurn();
    patients.add(make(at));
  }
}

/** The error with what is stored, and how the sender continues. */
function endedBy(reason: AppError, { key, dryRun }: Run, { lines, created, updated, failed }: ImportProgress): AppError {
  const changed = updated > 0 ? `, ${updated} are changed` : "";
  const stored = `${created} patients of the first ${lines} lines are stored${changed}; ${failed} of these lines failed.`;
  const again = key
    ? "Send the whole file again with the same Idempotency-Key: it goes on behind these lines."
    : "Leave these lines out when you send the file again. With an Idempotency-Key, it would go on behind them by itself.";
  const text = dryRun ? "This was a dry run; nothing is stored." : `${stored} ${again}`;
  return new AppError(reason.code, `${reason.message} ${text}`, { ...reason.options, cause: reason });
}

function otherFile(): AppError {
  return new AppError("idempotency_key_reused", "Idempotency-Key: was used for another file. Use a new key for a new file.");
}

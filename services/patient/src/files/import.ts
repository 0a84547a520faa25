/**
 * Imports: any number of patients in one request, in memory that does not grow with them. Lines are taken in batches, each
 * a transaction together with how far the import is, so that the same file under the same key goes on where it stopped.
 */
import { createHash, randomUUIDv7 } from "node:crypto";
import { setImmediate as nextTurn } from "node:timers/promises";
import { AppError, type FieldError } from "@pm/kit/errors";
import { registeredEvent } from "../patients/events.ts";
import type { Call } from "../patients/patients.ts";
import { importedRecord } from "../patients/record.ts";
import { searchWords } from "../patients/search.ts";
import { type CollectedPatients, collectPatients, type PatientDatabase } from "../patients/store.ts";
import type { ImportLine } from "./formats.ts";
import { advanceImport, beginImport, type Imported, readImportErrors } from "./store.ts";

const batchSize = 1_000;
/** After so many lines, a millisecond or two, whoever else is served here has a turn. */
const linesPerTurn = 25;
/** How many words of names an import keeps in mind: those of a million people, and little memory. */
const maxKnownWords = 50_000;

/** How an import ended. The errors are read when they are wanted: there may be as many as lines. */
export type ImportReport = {
  importId: string;
  dryRun: boolean;
  lines: number;
  created: number;
  failed: number;
  errors: AsyncIterable<{ line: number; errors: FieldError[] }>;
};

type Batch = {
  imported: (Imported & { names: string[] })[];
  patients: CollectedPatients;
  failures: { line: number; errors: FieldError[] }[];
};

export function createImports(options: { db: PatientDatabase; now: () => Date; committed: () => void }) {
  const { db, now, committed } = options;
  let running = 0;

  function take(call: Call, batch: Batch, knownWords: Set<string>, { number: line, body, errors }: ImportLine): void {
    if (errors !== undefined) {
      batch.failures.push({ line, errors });
      return;
    }
    try {
      const at = now();
      const record = importedRecord(body, at);
      const id = randomUUIDv7();
      const { all, names } = searchWords(record);
      const words = { all, names: names.filter((word) => !knownWords.has(word)) };
      const who = { actor: call.caller.id, requestId: call.requestId };
      const event = registeredEvent(id, at, call.traceparent, record);
      // Nobody waits for an import's billing accounts, so they are the worker's from the beginning.
      batch.patients.add({ ...who, id, at, action: "imported", record, words, event, billingAt: at });
      batch.imported.push({ line, id, email: record.email, names: words.names });
    } catch (error) {
      if (!(error instanceof AppError) || !error.options.errors) throw error;
      batch.failures.push({ line, errors: error.options.errors });
    }
  }

  return {
    /** Whether this process is importing. */
    isRunning: () => running > 0,
    /**
     * Imports lines. With a key, a request that was cut off is sent again, whole, and goes on where it stopped; one that
     * was finished gives its report again. A dry run checks everything and creates nothing. What was stored when the signal
     * aborts stays, and nothing follows.
     * @throws AppError idempotency_key_reused where the file under the key is another one, failed_precondition where it is being imported right now
     */
    async run(
      call: Call,
      lines: AsyncIterable<ImportLine>,
      { key, dryRun, signal }: { key: string | undefined; dryRun: boolean; signal: AbortSignal },
    ): Promise<ImportReport> {
      const started = await beginImport(db, { id: randomUUIDv7(), caller: call.caller.id, key: dryRun ? null : (key ?? null), dryRun });
      const hash = createHash("sha256");
      const spare: CollectedPatients[] = [];
      const newBatch = (): Batch => ({ imported: [], patients: spare.pop() ?? collectPatients(), failures: [] });
      let seen = 0;
      let batch = newBatch();
      let progress = Promise.resolve(started);
      // Names repeat: what this import has written to the words of names, it need not write again.
      const knownWords = new Set<string>();

      /** Writes one batch while the next one is read and checked. */
      const flush = async (finished: boolean): Promise<void> => {
        const before = await progress;
        const step = { ...batch, before, dryRun, signal, lines: seen, prefixHash: hash.copy().digest(), finished };
        batch = newBatch();
        progress = advanceImport(db, step).finally(committed);
        progress = progress.then((after) => {
          step.patients.clear();
          spare.push(step.patients);
          // Of patients that were not created nothing is written.
          if (after.created - before.created < step.imported.length) return after;
          for (const { names } of step.imported) for (const word of names) if (knownWords.size < maxKnownWords) knownWords.add(word);
          return after;
        });
        // Whoever awaits it next gets the error; until then it must not count as unhandled.
        progress.catch(() => undefined);
      };

      running += 1;
      try {
        for await (const line of lines) {
          signal.throwIfAborted();
          hash.update(line.text).update("\n");
          seen += 1;
          if (seen % linesPerTurn === 0) await nextTurn();
          if (seen === started.lines && !hash.copy().digest().equals(started.prefixHash)) throw otherFile();
          if (seen <= started.lines) continue;
          if (started.finished) throw otherFile();
          take(call, batch, knownWords, line);
          if (batch.imported.length + batch.failures.length === batchSize) await flush(false);
        }
        if (seen < started.lines) throw otherFile();
        if (!started.finished) await flush(true);
      } finally {
        // Whoever sends a file again after an error must not meet the end of this attempt.
        await progress.catch(() => undefined);
        running -= 1;
      }
      const { id, lines: all, created, failed } = await progress;
      return { importId: id, dryRun, lines: all, created, failed, errors: readImportErrors(db, id) };
    },
  };
}

function otherFile(): AppError {
  return new AppError("idempotency_key_reused", "Idempotency-Key: was used for another file. Use a new key for a new file.");
}

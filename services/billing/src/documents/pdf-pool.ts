/**
 * The thread that makes PDFs: one page takes as long as a hundred charges, and these must not wait for it. It starts
 * with the first document and ends after a minute without one. It makes several documents in turns, page by page, so
 * that a short one does not wait for a long one, and makes no page before its reader has taken the one before.
 */
import { once } from "node:events";
import { MessageChannel } from "node:worker_threads";
import { AppError } from "@pm/kit/errors";
import type { Lifecycle } from "@pm/kit/lifecycle";
import type { Logger } from "@pm/kit/log";
import { watchThreads } from "@pm/kit/metrics";
import { inSpan } from "@pm/kit/telemetry/tracing";
import Tinypool from "tinypool";
import type { PrintableDocument, WholeDocument } from "./document.ts";
import type { PdfTask } from "./pdf-worker.ts";

export type PdfPool = {
  /**
   * The PDF in pieces, of which the first one is there when the promise is fulfilled.
   * @throws AppError failed_precondition if the table is too long, resource_exhausted if too many documents wait
   */
  render(document: PrintableDocument, createdAt: Date): Promise<AsyncIterable<Uint8Array>>;
};

/** A year with 5,000 charges, and as many payments. The texts of all rows are in memory. */
const maxRows = 10_000;
const maxWaiting = 32;
const atOnce = 2;
const idleMs = 60_000;

export function createPdfPool({ log, lifecycle }: { log: Logger; lifecycle: Pick<Lifecycle, "onClose"> }): PdfPool {
  const filename = new URL("./pdf-worker.ts", import.meta.url);
  const threads = { minThreads: 0, maxThreads: 1, concurrentTasksPerWorker: atOnce, idleTimeout: idleMs };
  const pool = new Tinypool({ filename, name: "renderPdf", ...threads });
  lifecycle.onClose("pdf pool", () => pool.destroy());
  let waiting = 0;
  watchThreads("pdf", () => ({ size: atOnce, busy: Math.min(waiting, atOnce), waiting: Math.max(0, waiting - atOnce) }));

  // The thread has ended while it rendered nothing.
  pool.on("error", (error) => {
    log.error({ err: error }, "the thread that makes PDFs has ended");
    pool.cancelPendingTasks();
  });

  /** Ends when the PDF was taken, or when its reader has gone or takes nothing. */
  async function run(document: PrintableDocument, task: Omit<PdfTask, "document">): Promise<void> {
    waiting += 1;
    try {
      await inSpan("render pdf", {}, async () =>
        pool.run({ ...task, document: await withAllRows(document) }, { transferList: [task.reader] }),
      );
    } catch (error) {
      // The thread has ended. Tinypool starts another for the next call only, so those who wait now would wait for it.
      if (pool.threads.length === 0) pool.cancelPendingTasks();
      throw error;
    } finally {
      waiting -= 1;
    }
  }

  async function* piecesOf(document: PrintableDocument, createdAt: Date): AsyncGenerator<Uint8Array> {
    const { port1: worker, port2: reader } = new MessageChannel();
    const finished = run(document, { createdAt, reader });
    // It may fail while nobody waits for a piece. Whoever asks for the next one learns of it.
    finished.catch(() => undefined);
    try {
      for (;;) {
        const piece = await Promise.race([once(worker, "message"), finished]);
        if (!piece) return;
        yield piece[0];
        worker.postMessage(true);
      }
    } finally {
      worker.postMessage(false);
      worker.close();
    }
  }

  return {
    async render(document, createdAt) {
      if (waiting >= maxWaiting)
        throw new AppError("resource_exhausted", "Too many documents are being printed. Try again shortly.", { retryAfterSeconds: 2 });
      const pieces = piecesOf(document, createdAt);
      let first: IteratorResult<Uint8Array> | undefined = await pieces.next();
      return {
        [Symbol.asyncIterator]: () => ({
          async next() {
            const given = first;
            first = undefined;
            return given ?? pieces.next();
          },
          return: () => pieces.return(undefined),
        }),
      };
    },
  };
}

/** The sums of a page come after the table, so its rows are counted before the first one is drawn. */
async function withAllRows(document: PrintableDocument): Promise<WholeDocument> {
  const rows: string[][] = [];
  const parts = Array.isArray(document.table.rows) ? [document.table.rows] : document.table.rows;
  for await (const part of parts) {
    rows.push(...part);
    if (rows.length > maxRows)
      throw new AppError("failed_precondition", `More than ${maxRows} lines are not printed. Choose a shorter period, or HTML.`, {
        reason: "DOCUMENT_TOO_LONG",
      });
  }
  return { ...document, table: { ...document.table, rows } };
}

/**
 * The thread that makes PDFs: one page takes as long as a hundred charges, and these must not wait for it. It starts
 * with the first document and ends after a minute without one.
 */
import { AppError } from "@pm/kit/errors";
import type { Lifecycle } from "@pm/kit/lifecycle";
import type { Logger } from "@pm/kit/log";
import { watchThreads } from "@pm/kit/metrics";
import { inSpan } from "@pm/kit/telemetry/tracing";
import Tinypool from "tinypool";
import type { PrintableDocument } from "./document.ts";

export type PdfPool = {
  /** @throws AppError failed_precondition if the table is too long, resource_exhausted if too many documents wait */
  render(document: PrintableDocument, createdAt: Date): Promise<Uint8Array>;
};

const maxRows = 1_000;
const maxWaiting = 32;
const idleMs = 60_000;

export function createPdfPool({ log, lifecycle }: { log: Logger; lifecycle: Pick<Lifecycle, "onClose"> }): PdfPool {
  const filename = new URL("./pdf-worker.ts", import.meta.url);
  const pool = new Tinypool({ filename, name: "renderPdf", minThreads: 0, maxThreads: 1, idleTimeout: idleMs });
  lifecycle.onClose("pdf pool", () => pool.destroy());
  let waiting = 0;
  watchThreads("pdf", () => ({ size: 1, busy: Math.min(waiting, 1), waiting: Math.max(0, waiting - 1) }));

  // The thread has ended while it rendered nothing.
  pool.on("error", (error) => {
    log.error({ err: error }, "the thread that makes PDFs has ended");
    pool.cancelPendingTasks();
  });

  return {
    async render(document, createdAt) {
      if (document.table.rows.length > maxRows)
        throw new AppError("failed_precondition", `More than ${maxRows} lines are not printed. Choose a shorter period, or HTML.`, {
          reason: "DOCUMENT_TOO_LONG",
        });
      if (waiting >= maxWaiting)
        throw new AppError("resource_exhausted", "Too many documents are being printed. Try again shortly.", { retryAfterSeconds: 2 });
      waiting += 1;
      try {
        return await inSpan("render pdf", {}, () => pool.run({ document, createdAt }));
      } catch (error) {
        // The thread has ended. Tinypool starts the next one for the next call only, so those who wait now would wait
        // for it.
        if (pool.threads.length === 0) pool.cancelPendingTasks();
        throw error;
      } finally {
        waiting -= 1;
      }
    },
  };
}

/** The thread that makes PDFs: started when it is first needed, ended when nobody has printed for a minute. */
import { Worker } from "node:worker_threads";
import { AppError } from "@pm/kit/errors";
import type { Sheet } from "./document.ts";
import type { PdfJob, PdfResult } from "./pdf-worker.ts";

export type Printer = {
  /** @throws AppError failed_precondition for a table that is too long, resource_exhausted where too many wait. */
  print(sheet: Sheet, createdAt: Date): Promise<Uint8Array>;
  close(): Promise<void>;
};

const maxRows = 1_000;
const maxWaiting = 32;
const idleMs = 60_000;

type Waiting = { resolve: (pdf: Uint8Array) => void; reject: (error: Error) => void };

export function createPrinter(): Printer {
  let worker: Worker | undefined;
  let idle: NodeJS.Timeout | undefined;
  let lastId = 0;
  const waiting = new Map<number, Waiting>();

  function start(): Worker {
    const started = new Worker(new URL("./pdf-worker.ts", import.meta.url));
    started.on("message", (result: PdfResult) => {
      const job = waiting.get(result.id);
      waiting.delete(result.id);
      if ("pdf" in result) job?.resolve(result.pdf);
      else job?.reject(new Error(result.failure));
      if (waiting.size === 0) idle = setTimeout(() => void stop(), idleMs).unref();
    });
    const fail = (error: Error): void => {
      if (worker === started) worker = undefined;
      for (const job of waiting.values()) job.reject(error);
      waiting.clear();
    };
    started.on("error", fail);
    started.on("exit", () => fail(new Error("the thread that makes PDFs has ended")));
    // It keeps no process alive.
    started.unref();
    return started;
  }

  async function stop(): Promise<void> {
    clearTimeout(idle);
    const ending = worker;
    worker = undefined;
    await ending?.terminate();
  }

  return {
    async print(sheet, createdAt) {
      if (sheet.table.rows.length > maxRows)
        throw new AppError("failed_precondition", `More than ${maxRows} lines are not printed. Choose a shorter period, or HTML.`, {
          reason: "DOCUMENT_TOO_LONG",
        });
      if (waiting.size >= maxWaiting)
        throw new AppError("resource_exhausted", "Too many documents are being printed. Try again shortly.", { retryAfterSeconds: 2 });
      clearTimeout(idle);
      worker ??= start();
      lastId += 1;
      const job: PdfJob = { id: lastId, sheet, createdAt };
      const pdf = new Promise<Uint8Array>((resolve, reject) => waiting.set(job.id, { resolve, reject }));
      worker.postMessage(job);
      return pdf;
    },
    close: stop,
  };
}

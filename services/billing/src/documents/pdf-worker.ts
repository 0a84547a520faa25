/** Makes PDFs in a thread of its own: setting a page takes as long as a hundred charges, which must not wait for it. */
import { parentPort } from "node:worker_threads";
import type { Sheet } from "./document.ts";
import { toPdf } from "./pdf.ts";

export type PdfJob = { id: number; sheet: Sheet; createdAt: Date };
export type PdfResult = { id: number; pdf: Uint8Array } | { id: number; failure: string };

parentPort?.on("message", async ({ id, sheet, createdAt }: PdfJob) => {
  const result: PdfResult = await toPdf(sheet, createdAt).then(
    (pdf) => ({ id, pdf }),
    (error: unknown) => ({ id, failure: error instanceof Error ? (error.stack ?? error.message) : String(error) }),
  );
  parentPort?.postMessage(result);
});

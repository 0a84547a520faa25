/** What the threads of the pool (pdf-pool.ts) run. */
import { once } from "node:events";
import type { MessagePort } from "node:worker_threads";
import type { WholeDocument } from "./document.ts";
import { toPdf } from "./pdf.ts";

export type PdfTask = {
  document: WholeDocument;
  createdAt: Date;
  /** Takes the PDF piece by piece, and answers each with whether it wants the next one. */
  reader: MessagePort;
};

/** How long a reader may take for a piece, and for all of them. Another document may wait for its place. */
const pieceMs = 30_000;
const documentMs = 300_000;

export async function renderPdf({ document, createdAt, reader }: PdfTask): Promise<void> {
  const deadline = AbortSignal.timeout(documentMs);
  try {
    for await (const piece of toPdf(document, createdAt)) {
      const answered = once(reader, "message", { signal: AbortSignal.any([deadline, AbortSignal.timeout(pieceMs)]) });
      reader.postMessage(piece);
      const [wantsMore] = await answered;
      if (!wantsMore) return;
    }
  } finally {
    reader.close();
  }
}

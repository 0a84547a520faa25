/** What the threads of the pool (pdf-pool.ts) run. */
import type { PrintableDocument } from "./document.ts";
import { toPdf } from "./pdf.ts";

export function renderPdf({ document, createdAt }: { document: PrintableDocument; createdAt: Date }): Promise<Uint8Array> {
  return toPdf(document, createdAt);
}

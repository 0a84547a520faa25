/** How a document is distributed over pages, before it is drawn: each page tells how many there are. */
import { fileURLToPath } from "node:url";
import type { PrintableDocument, WholeDocument } from "./document.ts";

/**
 * For Latin, Greek, Cyrillic, Armenian, Georgian, Hebrew and more, but not for Chinese, Japanese or Korean. They are
 * given by path, because pdfkit caches fonts by path; it would parse their content again for every cell of a table.
 */
export const fonts = { regular: pathOf("DejaVuSans.ttf"), bold: pathOf("DejaVuSans-Bold.ttf") };
export const ink = "#1c2733";
/** Around the text of a cell. */
export const pad = { top: 5, bottom: 5, left: 3, right: 3 };
/** Above the sums of a page, and above the notes. */
export const gap = 12;
/** Under a sum, and above the last one. */
export const totalGap = 3;
export const lastTotalGap = 6;
/** Of the label of a sum. */
export const labelShare = 0.25;

type Totals = PrintableDocument["totals"];
export type Rows = { first: number; next: number };
/** What is on a page: rows from one to before another, sums, and notes. */
type Sheet = { rows?: Rows; totals: Totals; notes: string[] };

function pathOf(font: string): string {
  return fileURLToPath(import.meta.resolve(`dejavu-fonts-ttf/ttf/${font}`));
}

export function withTotalFont(doc: PDFKit.PDFDocument, isLast: boolean): PDFKit.PDFDocument {
  return doc
    .font(isLast ? fonts.bold : fonts.regular)
    .fontSize(isLast ? 11.5 : 10)
    .fillColor(ink);
}

export function withTextFont(doc: PDFKit.PDFDocument): PDFKit.PDFDocument {
  return doc.font(fonts.regular).fontSize(9.5).fillColor(ink);
}

export const noteOptions = (width: number) => ({ width, lineGap: 2 });

/** @param width between the margins. The first page goes on where the document is now. */
export function layOut(doc: PDFKit.PDFDocument, width: number, { table, totals, notes }: WholeDocument): Sheet[] {
  withTextFont(doc);
  const heightOf = (row: string[]) => {
    const heights = row.map((text, index) =>
      doc.heightOfString(text, { width: (table.columns[index]?.share ?? 0) * width - pad.left - pad.right }),
    );
    return Math.max(...heights) + pad.top + pad.bottom + 1;
  };
  const { top } = doc.page.margins;
  const bottom = doc.page.height - doc.page.margins.bottom;
  const headHeight = heightOf(table.columns.map(({ label }) => label)) + 2;
  let rows: Rows = { first: 0, next: 0 };
  let sheet: Sheet = { rows, totals: [], notes: [] };
  const sheets = [sheet];
  let y = doc.y + headHeight;
  const start = (next: Sheet, from: number) => {
    sheet = next;
    sheets.push(sheet);
    y = from;
  };
  for (const row of table.rows) {
    const height = heightOf(row);
    if (rows.next > rows.first && y + height > bottom) {
      rows = { first: rows.next, next: rows.next };
      start({ rows, totals: [], notes: [] }, top + headHeight);
    }
    rows.next += 1;
    y += height;
  }
  // All sums are on one page, if one has room for them: on the next one if this one does not.
  const heights = totals.map((total, index) => heightOfTotal(doc, width, total, index === totals.length - 1));
  if (y + gap + heights.reduce((sum, height) => sum + height, 0) > bottom) start({ totals: [], notes: [] }, top);
  y += gap;
  for (const [index, total] of totals.entries()) {
    const height = heights[index] ?? 0;
    if (y + height > bottom) start({ totals: [], notes: [] }, top + gap);
    sheet.totals.push(total);
    y += height;
  }
  withTextFont(doc);
  y += gap;
  for (const note of notes) {
    const height = doc.heightOfString(note, noteOptions(width)) + 1;
    if (y + height > bottom) start({ totals: [], notes: [] }, top + gap);
    sheet.notes.push(note);
    y += height;
  }
  return sheets;
}

function heightOfTotal(doc: PDFKit.PDFDocument, width: number, { label }: Totals[number], isLast: boolean): number {
  const height = withTotalFont(doc, isLast).heightOfString(`${label}: `, { width: width * labelShare });
  return height + totalGap + (isLast ? lastTotalGap : 0);
}

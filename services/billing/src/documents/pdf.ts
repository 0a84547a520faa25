/**
 * A sheet as PDF: tagged (headings, paragraphs, a table with header cells, in reading order), with language and title, and
 * with its fonts in it, so that a screen reader reads it as it looks (PDF/UA).
 */
import { fileURLToPath } from "node:url";
import PDFDocument from "pdfkit";
import type { Sheet } from "./document.ts";

/**
 * Latin, Greek, Cyrillic, Armenian, Georgian, Hebrew and more; not Chinese, Japanese or Korean. Paths, not contents: pdfkit
 * knows a font again by its path, and would otherwise read it anew for every cell of a table.
 */
const fonts = { regular: pathOf("DejaVuSans.ttf"), bold: pathOf("DejaVuSans-Bold.ttf") };
const accent = "#0b5c6b";
const ink = "#1c2733";
const muted = "#52606d";
const line = "#d5dce3";
const margin = 56;

function pathOf(font: string): string {
  return fileURLToPath(import.meta.resolve(`dejavu-fonts-ttf/ttf/${font}`));
}

/** @param createdAt what the file says about when it was made */
export function toPdf(given: Sheet, createdAt: Date): Promise<Buffer> {
  const sheet = writable(given, canWrite);
  const { clinic } = sheet;
  const doc = new PDFDocument({
    size: "A4",
    margins: { top: margin, bottom: margin + 20, left: margin, right: margin },
    pdfVersion: "1.7",
    lang: "en",
    tagged: true,
    displayTitle: true,
    bufferPages: true,
    info: { Title: `${sheet.title} – ${clinic.name}`, Author: clinic.name, CreationDate: createdAt, Producer: "patient-management" },
    // Known to pdfkit and not to its types.
    ...({ subset: "PDF/UA" } as object),
  });
  const whole = collect(doc);
  const root = doc.struct("Document");
  doc.addStructure(root);
  const width = doc.page.width - 2 * margin;
  const add = (tag: string, draw: () => void) => root.add(doc.struct(tag, {}, draw));
  const decorate = (draw: () => void) => {
    doc.markContent("Artifact", { type: "Layout" });
    draw();
    doc.endMarkedContent();
  };

  add("P", () => {
    doc
      .font(fonts.bold)
      .fontSize(15)
      .fillColor(accent)
      .text(clinic.name, margin, margin, { width: width * 0.7 });
    doc
      .font(fonts.regular)
      .fontSize(9)
      .fillColor(muted)
      .text(clinic.address, { width: width * 0.7 });
  });
  const belowHead = doc.y + 10;
  if (sheet.stamp !== undefined) {
    const { stamp } = sheet;
    add("P", () =>
      doc.font(fonts.bold).fontSize(13).fillColor("#8a1c1c").text(stamp.toUpperCase(), margin, margin, { width, align: "right" }),
    );
  }
  decorate(() =>
    doc
      .moveTo(margin, belowHead)
      .lineTo(margin + width, belowHead)
      .lineWidth(1.5)
      .strokeColor(accent)
      .stroke(),
  );
  doc.y = belowHead + 34;
  for (const text of sheet.addressee.filter(Boolean))
    add("P", () =>
      doc
        .font(fonts.regular)
        .fontSize(10)
        .fillColor(ink)
        .text(text, margin, doc.y, { width: width * 0.55, lineGap: 2 }),
    );
  add("H1", () =>
    doc
      .font(fonts.bold)
      .fontSize(20)
      .fillColor(ink)
      .text(sheet.title, margin, belowHead + 100, { width }),
  );
  doc.moveDown(0.4);
  for (const { label, value } of sheet.facts)
    add("P", () => {
      const { y } = doc;
      doc.font(fonts.regular).fontSize(9.5).fillColor(muted).text(`${label}: `, margin, y, { width: 110, lineBreak: false });
      doc.fillColor(ink).text(value, margin + 110, y, { width: width - 110 });
      doc.y += 2;
    });
  doc.moveDown(1);
  add("H2", () => doc.font(fonts.bold).fontSize(11).fillColor(ink).text(sheet.table.caption, margin, doc.y, { width }));
  doc.moveDown(0.3);
  drawTable(doc, sheet, root, width);
  drawTotals(doc, sheet, add, decorate, width);
  doc.moveDown(1);
  for (const note of sheet.notes)
    add("P", () => doc.font(fonts.regular).fontSize(9.5).fillColor(ink).text(note, margin, doc.y, { width, lineGap: 2 }));
  root.end();
  numberPages(doc, sheet, width);
  doc.end();
  return whole;
}

type Glyphs = { hasGlyphForCodePoint(codePoint: number): boolean };
let glyphs: Glyphs[] | undefined;

/** Whether both fonts have a character. */
function canWrite(codePoint: number): boolean {
  glyphs ??= Object.values(fonts).map((path) => {
    const doc = new PDFDocument({ autoFirstPage: false }).font(path);
    // Known to pdfkit and not to its types.
    return (doc as unknown as { _font: { font: Glyphs } })._font.font;
  });
  return glyphs.every((font) => font.hasGlyphForCodePoint(codePoint));
}

const unwritable = "[…]";

/** The sheet as the fonts can write it. What they cannot would be empty boxes: it is left out visibly, and a note says where it stands. */
export function writable(sheet: Sheet, hasGlyph: (codePoint: number) => boolean): Sheet {
  let isWhole = true;
  const write = (text: string): string => {
    const parts = Array.from(text, (character) =>
      /\s|\p{C}/u.test(character) || hasGlyph(character.codePointAt(0) ?? 0) ? character : unwritable,
    );
    if (!parts.includes(unwritable)) return text;
    isWhole = false;
    // One mark for each run, whatever spaces are in it.
    return parts.join("").replaceAll(/\[…\](?:\s*\[…\])+/g, unwritable);
  };
  const written = inEveryText(sheet, write);
  const note = `${unwritable} stands for characters that the font of this PDF lacks. The same document as HTML (format=html) has them.`;
  return isWhole ? sheet : { ...written, notes: [...written.notes, note] };
}

function inEveryText<Value>(value: Value, change: (text: string) => string): Value {
  if (typeof value === "string") return change(value) as Value;
  if (Array.isArray(value)) return value.map((each) => inEveryText(each, change)) as Value;
  if (typeof value !== "object" || value === null) return value;
  return Object.fromEntries(Object.entries(value).map(([key, each]) => [key, inEveryText(each, change)])) as Value;
}

function drawTable(doc: PDFKit.PDFDocument, { table }: Sheet, root: PDFKit.PDFStructureElement, width: number): void {
  const align = (isAmount: boolean) => ({ x: isAmount ? ("right" as const) : ("left" as const), y: "top" as const });
  const rule = { border: { bottom: 0.75, top: 0, left: 0, right: 0 }, borderColor: line };
  const pad = { top: 5, bottom: 5, left: 3, right: 3 };
  const headers = table.columns.map(({ label, isAmount }) => ({
    text: label,
    type: "TH" as const,
    scope: "Column",
    align: align(isAmount),
    font: { src: fonts.bold, size: 9.5 },
    border: { bottom: 1.25, top: 0, left: 0, right: 0 },
    borderColor: accent,
  }));
  const heightOf = (row: string[]) => {
    const heights = row.map((text, index) =>
      doc.heightOfString(text, { width: (table.columns[index]?.share ?? 0) * width - pad.left - pad.right }),
    );
    return Math.max(...heights) + pad.top + pad.bottom + 1;
  };
  // pdfkit goes on with a table on the next page and does not repeat its head: so each page gets a table of its own.
  for (let [first, next] = [0, 0]; first === 0 || first < table.rows.length; first = next) {
    if (first > 0) doc.addPage();
    doc.font(fonts.regular).fontSize(9.5).fillColor(ink);
    let room = doc.page.height - doc.page.margins.bottom - doc.y - heightOf(table.columns.map(({ label }) => label)) - 2;
    do {
      next += 1;
      room -= heightOf(table.rows[next - 1] ?? []);
    } while (next < table.rows.length && heightOf(table.rows[next] ?? []) <= room);
    const rows = table.rows.slice(first, next);
    doc.table({
      position: { x: margin, y: doc.y },
      maxWidth: width,
      columnStyles: table.columns.map(({ share }) => ({ width: share * width })),
      defaultStyle: { ...rule, padding: pad },
      data: [headers, ...rows.map((row) => row.map((text, index) => ({ text, align: align(table.columns[index]?.isAmount ?? false) })))],
      // Known to pdfkit and not to its types.
      ...({ structParent: root } as object),
    });
  }
}

function drawTotals(
  doc: PDFKit.PDFDocument,
  { totals }: Sheet,
  add: (tag: string, draw: () => void) => void,
  decorate: (draw: () => void) => void,
  width: number,
): void {
  // Sums stay together: on the next page, if there is no room for all of them.
  if (doc.y + totals.length * 20 + 30 > doc.page.height - doc.page.margins.bottom) doc.addPage();
  doc.y += 12;
  for (const [index, { label, value }] of totals.entries()) {
    const isLast = index === totals.length - 1;
    const top = doc.y + (isLast ? 6 : 0);
    if (isLast)
      decorate(() =>
        doc
          .moveTo(margin + width * 0.5, top - 4)
          .lineTo(margin + width, top - 4)
          .lineWidth(1.25)
          .strokeColor(accent)
          .stroke(),
      );
    add("P", () => {
      doc
        .font(isLast ? fonts.bold : fonts.regular)
        .fontSize(isLast ? 11.5 : 10)
        .fillColor(ink);
      doc.text(`${label}: `, margin + width * 0.5, top, { width: width * 0.25, lineBreak: true });
      const below = doc.y;
      doc.text(value, margin + width * 0.7, top, { width: width * 0.3 - 3, align: "right" });
      doc.y = Math.max(below, doc.y) + 3;
    });
  }
}

/** Page numbers are decoration: whoever listens to the document is not interrupted by them. */
function numberPages(doc: PDFKit.PDFDocument, { title, clinic }: Sheet, width: number): void {
  const { start, count } = doc.bufferedPageRange();
  for (let page = start; page < start + count; page += 1) {
    doc.switchToPage(page);
    doc.page.margins.bottom = 0;
    doc.markContent("Artifact", { type: "Pagination" });
    doc
      .font(fonts.regular)
      .fontSize(8)
      .fillColor(muted)
      .text(`${clinic.name} · ${title} · page ${page + 1} of ${count}`, margin, doc.page.height - margin, { width, align: "center" });
    doc.endMarkedContent();
  }
}

function collect(doc: PDFKit.PDFDocument): Promise<Buffer> {
  return new Promise((resolve, reject) => {
    const chunks: Buffer[] = [];
    doc.on("data", (chunk: Buffer) => chunks.push(chunk));
    doc.on("end", () => resolve(Buffer.concat(chunks)));
    doc.on("error", reject);
  });
}

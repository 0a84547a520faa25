/**
 * A printable document as PDF/UA: tagged in reading order (headings, paragraphs, a table with header cells), with
 * language, title and embedded fonts, so that a screen reader reads all of it.
 */
import { fileURLToPath } from "node:url";
import PDFDocument from "pdfkit";
import type { PrintableDocument } from "./document.ts";

/**
 * For Latin, Greek, Cyrillic, Armenian, Georgian, Hebrew and more, but not for Chinese, Japanese or Korean. They are
 * given by path, because pdfkit caches fonts by path; it would parse their content again for every cell of a table.
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

/**
 * A PDF under construction. What is drawn by `add` is content for screen readers; what is drawn by `decorate` is not.
 */
type Page = {
  doc: PDFKit.PDFDocument;
  root: PDFKit.PDFStructureElement;
  /** Between the margins. */
  width: number;
  add: (tag: string, draw: () => void) => void;
  decorate: (draw: () => void) => void;
};

/** @param createdAt the creation date in the file */
export function toPdf(given: PrintableDocument, createdAt: Date): Promise<Buffer> {
  const document = writable(given, canWrite);
  const { title, clinic, facts, table, notes } = document;
  const doc = new PDFDocument({
    size: "A4",
    margins: { top: margin, bottom: margin + 20, left: margin, right: margin },
    pdfVersion: "1.7",
    lang: "en",
    tagged: true,
    displayTitle: true,
    bufferPages: true,
    info: { Title: `${title} – ${clinic.name}`, Author: clinic.name, CreationDate: createdAt, Producer: "patient-management" },
    // Missing in the types of pdfkit.
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
  const page: Page = { doc, root, width, add, decorate };

  drawHead(page, document);
  doc.moveDown(0.4);
  for (const { label, value } of facts)
    add("P", () => {
      const { y } = doc;
      doc.font(fonts.regular).fontSize(9.5).fillColor(muted).text(`${label}: `, margin, y, { width: 110, lineBreak: false });
      doc.fillColor(ink).text(value, margin + 110, y, { width: width - 110 });
      doc.y += 2;
    });
  doc.moveDown(1);
  add("H2", () => doc.font(fonts.bold).fontSize(11).fillColor(ink).text(table.caption, margin, doc.y, { width }));
  doc.moveDown(0.3);
  drawTable(page, document);
  drawTotals(page, document);
  doc.moveDown(1);
  for (const note of notes)
    add("P", () => doc.font(fonts.regular).fontSize(9.5).fillColor(ink).text(note, margin, doc.y, { width, lineGap: 2 }));
  root.end();
  numberPages(page, document);
  doc.end();
  return whole;
}

/** The sender, the stamp, a rule, the addressee and the title. */
function drawHead({ doc, width, add, decorate }: Page, { clinic, stamp, addressee, title }: PrintableDocument): void {
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
  if (stamp !== undefined)
    add("P", () =>
      doc.font(fonts.bold).fontSize(13).fillColor("#8a1c1c").text(stamp.toUpperCase(), margin, margin, { width, align: "right" }),
    );
  decorate(() =>
    doc
      .moveTo(margin, belowHead)
      .lineTo(margin + width, belowHead)
      .lineWidth(1.5)
      .strokeColor(accent)
      .stroke(),
  );
  doc.y = belowHead + 34;
  for (const text of addressee)
    add("P", () =>
      doc
        .font(fonts.regular)
        .fontSize(10)
        .fillColor(ink)
        .text(text, margin, doc.y, { width: width * 0.55, lineGap: 2 }),
    );
  const top = Math.max(belowHead + 100, doc.y + 14);
  add("H1", () => doc.font(fonts.bold).fontSize(20).fillColor(ink).text(title, margin, top, { width }));
}

type Glyphs = { hasGlyphForCodePoint(codePoint: number): boolean };
let glyphs: Glyphs[] | undefined;

/** Whether both fonts have a character. */
function canWrite(codePoint: number): boolean {
  glyphs ??= Object.values(fonts).map((path) => {
    const doc = new PDFDocument({ autoFirstPage: false }).font(path);
    // Missing in the types of pdfkit.
    return (doc as unknown as { _font: { font: Glyphs } })._font.font;
  });
  return glyphs.every((font) => font.hasGlyphForCodePoint(codePoint));
}

const unwritable = "[…]";

/**
 * The document with the characters that the fonts have. The others would be empty boxes; a mark takes their place, and
 * a note says where to read them.
 */
export function writable(document: PrintableDocument, hasGlyph: (codePoint: number) => boolean): PrintableDocument {
  let isWhole = true;
  const write = (text: string): string => {
    const parts = Array.from(text, (character) =>
      /\s|\p{C}/u.test(character) || hasGlyph(character.codePointAt(0) ?? 0) ? character : unwritable,
    );
    if (!parts.includes(unwritable)) return text;
    isWhole = false;
    // One mark for a run of such characters, even with spaces in it.
    return parts.join("").replaceAll(/\[…\](?:\s*\[…\])+/g, unwritable);
  };
  const written = inEveryText(document, write);
  const note = `${unwritable} stands for characters that the font of this PDF lacks. The same document as HTML (format=html) has them.`;
  return isWhole ? document : { ...written, notes: [...written.notes, note] };
}

function inEveryText<Value>(value: Value, change: (text: string) => string): Value {
  if (typeof value === "string") return change(value) as Value;
  if (Array.isArray(value)) return value.map((each) => inEveryText(each, change)) as Value;
  if (typeof value !== "object" || value === null) return value;
  return Object.fromEntries(Object.entries(value).map(([key, each]) => [key, inEveryText(each, change)])) as Value;
}

function drawTable({ doc, root, width }: Page, { table }: PrintableDocument): void {
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
  // On the next page, pdfkit would continue the table without repeating its head, so each page gets its own table.
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
      // Missing in the types of pdfkit.
      ...({ structParent: root } as object),
    });
  }
}

function drawTotals({ doc, width, add, decorate }: Page, { totals }: PrintableDocument): void {
  const bottom = doc.page.height - doc.page.margins.bottom;
  // All sums are on one page, if one has room for them: on the next one if this one does not.
  if (doc.y + totals.length * 20 + 30 > bottom) doc.addPage();
  doc.y += 12;
  for (const [index, { label, value }] of totals.entries()) {
    const isLast = index === totals.length - 1;
    // A long label takes three lines.
    if (doc.y + 50 > bottom) doc.addPage();
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

/** Page numbers are marked as decoration, so that a screen reader does not interrupt the text with them. */
function numberPages({ doc, width }: Page, { title, clinic }: PrintableDocument): void {
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

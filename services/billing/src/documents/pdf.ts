/**
 * A printable document as PDF/UA: tagged in reading order (headings, paragraphs, a table with header cells), with
 * language, title and embedded fonts, so that a screen reader reads all of it. It is made page by page.
 */
import PDFDocument from "pdfkit";
import type { PrintableDocument, WholeDocument } from "./document.ts";
import {
  fonts,
  gap,
  ink,
  labelShare,
  lastTotalGap,
  layOut,
  noteOptions,
  pad,
  type Rows,
  totalGap,
  withTextFont,
  withTotalFont,
} from "./pdf-layout.ts";

const accent = "#0b5c6b";
const muted = "#52606d";
const line = "#d5dce3";
const margin = 56;

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

/**
 * The file in pieces, a page each.
 * @param createdAt the creation date in the file
 */
export async function* toPdf(given: WholeDocument, createdAt: Date): AsyncGenerator<Buffer> {
  const document = writable(given, canWrite);
  const { title, clinic, facts, table } = document;
  const doc = new PDFDocument({
    size: "A4",
    margins: { top: margin, bottom: margin + 20, left: margin, right: margin },
    pdfVersion: "1.7",
    lang: "en",
    tagged: true,
    displayTitle: true,
    info: { Title: `${title} – ${clinic.name}`, Author: clinic.name, CreationDate: createdAt, Producer: "patient-management" },
    // Missing in the types of pdfkit.
    ...({ subset: "PDF/UA" } as object),
  });
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
  const sheets = layOut(doc, width, document);
  for (const [index, { rows, totals, notes }] of sheets.entries()) {
    if (index > 0) doc.addPage();
    if (rows) drawTable(page, document, rows);
    if (totals.length > 0) drawTotals(page, totals, document.totals.at(-1));
    if (notes.length > 0) doc.y += gap;
    for (const note of notes) add("P", () => withTextFont(doc).text(note, margin, doc.y, noteOptions(width)));
    numberPage(page, document, { number: index + 1, count: sheets.length });
    // The page before is complete.
    const bytes: Buffer | null = doc.read();
    if (bytes) yield bytes;
  }
  root.end();
  doc.end();
  yield doc.read();
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
export function writable(document: WholeDocument, hasGlyph: (codePoint: number) => boolean): WholeDocument {
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

const rule = { border: { bottom: 0.75, top: 0, left: 0, right: 0 }, borderColor: line };

/** On the next page, pdfkit would continue a table without repeating its head, so each page gets a table of its own. */
function drawTable({ doc, root, width }: Page, { table }: WholeDocument, { first, next }: Rows): void {
  const align = (isAmount: boolean) => ({ x: isAmount ? ("right" as const) : ("left" as const), y: "top" as const });
  const headers = table.columns.map(({ label, isAmount }) => ({
    text: label,
    type: "TH" as const,
    scope: "Column",
    align: align(isAmount),
    font: { src: fonts.bold, size: 9.5 },
    border: { bottom: 1.25, top: 0, left: 0, right: 0 },
    borderColor: accent,
  }));
  const rows = table.rows.slice(first, next);
  withTextFont(doc).table({
    position: { x: margin, y: doc.y },
    maxWidth: width,
    columnStyles: table.columns.map(({ share }) => ({ width: share * width })),
    defaultStyle: { ...rule, padding: pad },
    data: [headers, ...rows.map((row) => row.map((text, index) => ({ text, align: align(table.columns[index]?.isAmount ?? false) })))],
    // Missing in the types of pdfkit.
    ...({ structParent: root } as object),
  });
}

function drawTotals({ doc, width, add, decorate }: Page, totals: PrintableDocument["totals"], last: object | undefined): void {
  doc.y += gap;
  for (const total of totals) {
    const { label, value } = total;
    const isLast = total === last;
    const top = doc.y + (isLast ? lastTotalGap : 0);
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
      withTotalFont(doc, isLast).text(`${label}: `, margin + width * 0.5, top, { width: width * labelShare, lineBreak: true });
      const below = doc.y;
      doc.text(value, margin + width * 0.7, top, { width: width * 0.3 - 3, align: "right" });
      doc.y = Math.max(below, doc.y) + totalGap;
    });
  }
}

/** The page number is marked as decoration, so that a screen reader does not interrupt the text with it. */
function numberPage({ doc, width }: Page, { title, clinic }: PrintableDocument, page: { number: number; count: number }): void {
  doc.page.margins.bottom = 0;
  doc.markContent("Artifact", { type: "Pagination" });
  doc
    .font(fonts.regular)
    .fontSize(8)
    .fillColor(muted)
    .text(`${clinic.name} · ${title} · page ${page.number} of ${page.count}`, margin, doc.page.height - margin, { width, align: "center" });
  doc.endMarkedContent();
}

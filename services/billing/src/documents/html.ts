/** A printable document as one HTML page. It has no scripts, loads nothing, fits a phone, and prints on A4. */
import { createHash } from "node:crypto";
import { html, raw } from "hono/html";
import type { PrintableDocument } from "./document.ts";

const style = `
:root { color-scheme: light; font: 16px/1.5 system-ui, sans-serif; color: #1c2733; background: #eef1f4; }
body { margin: 0; }
main { max-width: 46rem; margin: 2rem auto; padding: 3rem; background: #fff; border-radius: .5rem; box-shadow: 0 1px 4px #0003; }
header { display: flex; justify-content: space-between; gap: 2rem; border-bottom: 2px solid #0b5c6b; padding-bottom: 1rem; }
header strong { color: #0b5c6b; font-size: 1.25rem; }
header p, address { margin: 0; font-style: normal; white-space: pre-line; }
.stamp { align-self: start; border: 2px solid #8a1c1c; color: #8a1c1c; padding: .1rem .75rem; font-weight: 600; text-transform: uppercase; }
h1 { font-size: 1.75rem; margin: 1.5rem 0; }
.head { display: flex; flex-wrap: wrap; justify-content: space-between; gap: 1.5rem; margin: 2rem 0; }
dl { display: grid; grid-template-columns: auto auto; gap: .15rem 1.5rem; margin: 0; }
dt { color: #52606d; }
dd { margin: 0; overflow-wrap: anywhere; }
table { width: 100%; border-collapse: collapse; }
caption { text-align: left; font-weight: 600; padding: .5rem 0; }
th, td { text-align: left; padding: .5rem .5rem .5rem 0; border-bottom: 1px solid #d5dce3; vertical-align: top; }
.amount { text-align: right; padding-right: 0; font-variant-numeric: tabular-nums; white-space: nowrap; }
td:first-child { white-space: nowrap; padding-right: 1.5rem; }
.totals { margin: 1rem 0 1rem auto; width: max-content; gap: .15rem 0; }
.totals dd { text-align: right; font-variant-numeric: tabular-nums; padding-left: 2.5rem; }
.totals dt:last-of-type, .totals dd:last-of-type { font-weight: 700; color: inherit; border-top: 2px solid #0b5c6b; padding-top: .25rem; }
@media (max-width: 40rem) { main { margin: 0; padding: 1.25rem; border-radius: 0; } }
@media print { :root { background: #fff; font-size: 11pt; } main { margin: 0; padding: 0; box-shadow: none; max-width: none; } tr { break-inside: avoid; } thead { display: table-header-group; } }
@page { size: A4; margin: 20mm; }
`;

/** Allows the style, by its hash, and nothing else. */
export const contentSecurityPolicy = `default-src 'none'; style-src 'sha256-${createHash("sha256").update(style).digest("base64")}'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'`;

/** The page, in pieces: its rows may be many. All texts of the document are escaped. */
export async function* toHtml(document: PrintableDocument): AsyncGenerator<string> {
  const { clinic, table, totals } = document;
  const facts = document.facts.map(({ label, value }) => html`<dt>${label}</dt><dd>${value}</dd>`);
  const head = table.columns.map(({ label, isAmount }) => html`<th scope="col"${isAmount ? html` class="amount"` : ""}>${label}</th>`);
  yield String(
    await html`<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>${document.title} – ${clinic.name}</title>
<style>${raw(style)}</style>
</head>
<body>
<main>
<header><p><strong>${clinic.name}</strong>
${clinic.address}</p>${document.stamp ? html`<p class="stamp">${document.stamp}</p>` : ""}</header>
<h1>${document.title}</h1>
<div class="head"><address>${document.addressee.join("\n")}</address><dl>${facts}</dl></div>
<table><caption>${table.caption}</caption>
<thead><tr>${head}</tr></thead>
<tbody>
`,
  );
  for await (const rows of Array.isArray(table.rows) ? [table.rows] : table.rows)
    yield String(await html`${rows.map((row) => toRow(table, row))}`);
  yield String(
    await html`</tbody></table>
<dl class="totals">${totals.map(({ label, value }) => html`<dt>${label}</dt><dd>${value}</dd>`)}</dl>
${document.notes.map((note) => html`<p>${note}</p>\n`)}</main>
</body>
</html>
`,
  );
}

function toRow({ columns }: PrintableDocument["table"], row: string[]) {
  return html`<tr>${row.map((cell, index) => html`<td${columns[index]?.isAmount ? html` class="amount"` : ""}>${cell}</td>`)}</tr>
`;
}

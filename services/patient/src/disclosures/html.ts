/** Disclosures as a page that can be printed and given to the patient. It has no scripts and loads nothing. */
import { createHash } from "node:crypto";
import { html, raw } from "hono/html";
import type { Disclosure } from "./disclosures.ts";

const style = `
:root { color-scheme: light; font: 16px/1.5 system-ui, sans-serif; color: #1c2733; background: #fff; }
main { max-width: 64rem; margin: 2rem auto; padding: 0 1rem; }
table { width: 100%; border-collapse: collapse; }
th, td { text-align: left; padding: .4rem 1rem .4rem 0; border-bottom: 1px solid #d5dce3; vertical-align: top; overflow-wrap: anywhere; }
@media print { :root { font-size: 10pt; } tr { break-inside: avoid; } thead { display: table-header-group; } }
@page { size: A4 landscape; margin: 15mm; }
`;

/** Allows the style, by its hash, and nothing else. */
export const contentSecurityPolicy = `default-src 'none'; style-src 'sha256-${createHash("sha256").update(style).digest("base64")}'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'`;

/** The page, piece by piece. All texts are escaped. */
export async function* toHtml(patientId: string, pieces: AsyncIterable<Disclosure[]>): AsyncGenerator<string> {
  const title = `Who saw or changed the data of patient ${patientId}`;
  yield String(html`<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>${title}</title>
<style>${raw(style)}</style>
</head>
<body>
<main>
<h1>${title}</h1>
<table>
<thead><tr><th scope="col">When</th><th scope="col">Who</th><th scope="col">What</th><th scope="col">Service</th><th scope="col">Request</th></tr></thead>
<tbody>
`);
  for await (const items of pieces)
    yield items
      .map(
        ({ at, actor, action, service, requestId }) =>
          html`<tr><td><time datetime="${at}">${at}</time></td><td>${actor}</td><td>${action}</td><td>${service}</td><td>${requestId}</td></tr>
`,
      )
      .join("");
  yield "</tbody>\n</table>\n</main>\n</body>\n</html>\n";
}

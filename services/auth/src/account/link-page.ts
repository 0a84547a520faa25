/** The page behind a link of a mail: a form, and its result. It has no script and loads nothing. */
import { createHash } from "node:crypto";
import { html, raw } from "hono/html";

const style = `:root { color-scheme: light dark }
body { font: 1rem/1.5 system-ui, sans-serif; max-width: 26rem; margin: 4rem auto; padding: 0 1rem }
label, input, button { display: block; width: 100%; box-sizing: border-box; font: inherit }
input, button { padding: .5rem; margin: .25rem 0 1rem }
[role=alert] { font-weight: bold }`;
const styleHash = createHash("sha256").update(style).digest("base64");

/**
 * @param content.token is sent with the form; without it, the page has no form. The address of the page contains the
 *   token too, so no referrer is sent.
 */
export function linkPage(content: { title: string; problem?: string; note?: string; token?: string | undefined }): string {
  const { title, problem, note, token } = content;
  return String(html`<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<title>${title}</title>
<link rel="icon" href="data:,">
<style>${raw(style)}</style>
<main>
<h1>${title}</h1>
${problem ? html`<p role="alert">${problem}</p>` : ""}
${note ? html`<p>${note}</p>` : ""}
${
  token
    ? html`<form method="post">
<input type="hidden" name="token" value="${token}">
<label for="password">Password (at least 8 characters)</label>
<input id="password" name="password" type="password" autocomplete="new-password" minlength="8" maxlength="128" required autofocus>
<button>Save</button>
</form>`
    : ""
}
</main>
</html>`);
}

export const linkPageHeaders = {
  "content-type": "text/html; charset=UTF-8",
  "cache-control": "no-store",
  "referrer-policy": "no-referrer",
  "content-security-policy": `default-src 'none'; img-src data:; style-src 'sha256-${styleHash}'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'`,
  "x-content-type-options": "nosniff",
};

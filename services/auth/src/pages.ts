/** The page that a link in a mail leads to: one form, no script, nothing loaded from anywhere. */
import { createHash } from "node:crypto";
import { html, raw } from "hono/html";

const style = `body { font: 1rem/1.5 system-ui, sans-serif; max-width: 26rem; margin: 4rem auto; padding: 0 1rem }
label, input, button { display: block; width: 100%; box-sizing: border-box; font: inherit }
input, button { padding: .5rem; margin: .25rem 0 1rem }`;
const styleHash = createHash("sha256").update(style).digest("base64");

/** @param token goes back with the form; the address bar, where it stands too, is told to nobody (`referrer-policy`) */
function render(title: string, autocomplete: string, token: string) {
  return html`<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<title>${title}</title>
<style>${raw(style)}</style>
<main>
<h1>${title}</h1>
<form method="post">
<input type="hidden" name="token" value="${token}">
<label for="password">Password (at least 8 characters)</label>
<input id="password" name="password" type="password" autocomplete="${autocomplete}" minlength="8" maxlength="128" required autofocus>
<button>Save</button>
</form>
</main>
</html>`;
}

export const linkPage = Object.assign(render, {
  headers: {
    "cache-control": "no-store",
    "referrer-policy": "no-referrer",
    "content-security-policy": `default-src 'none'; style-src 'sha256-${styleHash}'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'`,
    "x-content-type-options": "nosniff",
  },
});

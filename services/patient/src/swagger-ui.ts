/** The interactive documentation of all APIs: Swagger UI from npm, served from here, so that it works offline. */
import { createHash } from "node:crypto";
import { readFile } from "node:fs/promises";
import { fileURLToPath } from "node:url";
import { AppError } from "@pm/kit/errors";
import { matchesIfNoneMatch } from "@pm/kit/http/etag";
import type { RestApp } from "@pm/kit/http/rest";

const page = `<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Patient management: APIs</title>
<link rel="icon" href="docs/favicon.png">
<link rel="stylesheet" href="docs/ui.css">
</head>
<body>
<div id="ui"></div>
<noscript>This page needs JavaScript. The documents behind it do not:
<a href="openapi/patient.json">patients</a>, <a href="openapi/auth.json">auth</a>, <a href="openapi/analytics.json">analytics</a>, <a href="openapi/fhir.json">fhir</a>.</noscript>
<script src="docs/ui.js"></script>
<script src="docs/preset.js"></script>
<script src="docs/start.js"></script>
</body>
</html>
`;

const start = `SwaggerUIBundle({
  dom_id: "#ui",
  urls: [
    { name: "Patients", url: "/openapi/patient.json" },
    { name: "Auth", url: "/openapi/auth.json" },
    { name: "Analytics", url: "/openapi/analytics.json" },
    { name: "FHIR", url: "/openapi/fhir.json" },
  ],
  presets: [SwaggerUIBundle.presets.apis, SwaggerUIStandalonePreset],
  layout: "StandaloneLayout",
  deepLinking: true,
  persistAuthorization: false,
  validatorUrl: null,
});
`;

/** No other origin, no inline script. */
const policy = [
  "default-src 'none'",
  "script-src 'self'",
  "style-src 'self' 'unsafe-inline'",
  "img-src 'self' data:",
  "connect-src 'self'",
  "base-uri 'none'",
  "form-action 'none'",
  "frame-ancestors 'none'",
].join("; ");

const file = (name: string) => async () => readFile(fileURLToPath(import.meta.resolve(`swagger-ui-dist/${name}`)));
const assets: Record<string, { type: string; read: () => Promise<Buffer> }> = {
  "ui.js": { type: "text/javascript; charset=utf-8", read: file("swagger-ui-bundle.js") },
  "preset.js": { type: "text/javascript; charset=utf-8", read: file("swagger-ui-standalone-preset.js") },
  "ui.css": { type: "text/css; charset=utf-8", read: file("swagger-ui.css") },
  "favicon.png": { type: "image/png", read: file("favicon-32x32.png") },
  "start.js": { type: "text/javascript; charset=utf-8", read: async () => Buffer.from(start) },
};

export function registerDocs({ app }: RestApp): void {
  app.get("/docs", (c) => {
    c.set("operation", "docs");
    return c.html(page, 200, { "content-security-policy": policy, "cache-control": "no-cache" });
  });
  // Files are read on request and not kept: 1.6 MB that are needed once a day need not stay in memory.
  app.get("/docs/:file", async (c) => {
    c.set("operation", "docs");
    const asset = Object.hasOwn(assets, c.req.param("file")) ? assets[c.req.param("file")] : undefined;
    if (!asset) throw new AppError("not_found", "The documentation has no such file.");
    const content = await asset.read();
    const etag = `"${createHash("sha256").update(content).digest("base64url").slice(0, 20)}"`;
    const headers = { etag, "cache-control": "public, max-age=3600" };
    if (matchesIfNoneMatch(c.req.header("if-none-match"), etag)) return c.body(null, 304, headers);
    return c.body(new Uint8Array(content), 200, { ...headers, "content-type": asset.type });
  });
}

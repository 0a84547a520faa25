/** The OpenAPI document and the page that shows it. */
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { operations } from "@pm/kit/auth/access";
import { expect, test } from "vitest";
import { rulesAt } from "../src/patients/fields.ts";
import { newRecord } from "../src/patients/record.ts";
import { defaultSettings, startPatientApp } from "./testing.ts";

const nowhere = "postgres://patient@127.0.0.1:9/patient";
const golden = join(import.meta.dirname, "..", "openapi.json");

async function get(path: string, headers: Record<string, string> = {}) {
  const { app, close } = await startPatientApp(nowhere);
  const response = await app.request(path, { headers });
  const text = await response.text();
  await close();
  return { status: response.status, headers: response.headers, text };
}

test("the OpenAPI document is the one that was checked in (UPDATE=1 rewrites it)", async () => {
  const document = `${JSON.stringify(JSON.parse((await get("/openapi.json")).text), null, 2)}\n`;
  if (process.env.UPDATE) writeFileSync(golden, document);
  expect(document).toBe(readFileSync(golden, "utf8"));
});

test("every operation of the access table is in the document with its scope, and no other", async () => {
  const { paths } = JSON.parse((await get("/openapi-internal.json")).text) as {
    paths: Record<string, Record<string, { operationId: string; security: [{ bearer: string[] }] }>>;
  };
  const documented = Object.values(paths).flatMap((methods) =>
    Object.values(methods).map(({ operationId, security }) => [`patient.${operationId}`, security[0].bearer[0]]),
  );
  const listed = Object.entries(operations).filter(([name]) => name.startsWith("patient."));
  expect(Object.fromEntries(documented)).toEqual(Object.fromEntries(listed));
});

test("the examples of written bodies are right", async () => {
  const { components } = JSON.parse((await get("/openapi.json")).text);
  for (const example of components.schemas.PatientCreate.examples)
    expect(newRecord(example, rulesAt(Date.parse("2026-11-21"), defaultSettings))).toMatchObject({ email: "ada@example.com" });
});

test("/docs and everything it loads come from this service", async () => {
  const page = await get("/docs");
  expect(page.headers.get("content-security-policy")).toContain("default-src 'none'");
  const loaded = [...page.text.matchAll(/(?:src|href)="(docs\/[^"]+)"/g)].map(([, path]) => `/${path}`);
  expect(loaded).toHaveLength(5);
  for (const path of loaded) {
    const { status, headers } = await get(path);
    expect([path, status]).toEqual([path, 200]);
    // Weakly, as a cache asks that got it compressed.
    for (const tag of [headers.get("etag"), `W/${headers.get("etag")}`])
      expect((await get(path, { "if-none-match": tag ?? "" })).status).toBe(304);
  }
  expect((await get("/docs/nothing.js")).status).toBe(404);
  expect(page.text).not.toMatch(/https?:\/\//);
});

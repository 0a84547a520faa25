/**
 * Every operation that takes text refuses broken text: bytes that are not UTF-8,
 * halves of surrogate pairs, compressed bodies and other character sets, in bodies,
 * paths and queries. The OpenAPI documents and the proto list the operations.
 */
import { randomUUID } from "node:crypto";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { BillingService } from "@pm/proto/billing/v1/billing";
import { type Platform, startPlatform } from "@pm/stack/platform";
import { afterAll, beforeAll, expect, test } from "vitest";
import { clientOf, logIn } from "./client.ts";

type Operation = { name: string; method: string; url: string; types: string[] };
type Document = { paths: Record<string, Record<string, { operationId: string; requestBody?: { content: Record<string, unknown> } }>> };

const json = "application/json";
const form = "application/x-www-form-urlencoded";
const dataDir = mkdtempSync(join(tmpdir(), "pm-text-"));
let platform: Platform;
let authorization: string;
let found: Operation[];
let methods: string[];

beforeAll(async () => {
  platform = await startPlatform({ dataDir, durable: false });
  authorization = `Bearer ${(await logIn(platform)).token}`;
  found = (await Promise.all((["patient", "auth", "analytics", "billing"] as const).map(operationsOf))).flat();
  methods = BillingService.methods.map(({ name }) => `${platform.services.billing.url}/${BillingService.typeName}/${name}`);
});
afterAll(async () => {
  await platform?.stop();
  rmSync(dataDir, { recursive: true, force: true });
});

async function operationsOf(service: "patient" | "auth" | "analytics" | "billing"): Promise<Operation[]> {
  const base = platform.services[service].url;
  const document = (await clientOf(base).get("/openapi-internal.json")).body as Document;
  return Object.entries(document.paths ?? {}).flatMap(([path, operations]) =>
    Object.entries(operations).map(([method, { operationId, requestBody }]) => ({
      ...{ name: `${service}.${operationId}`, method: method.toUpperCase(), url: `${base}${path}` },
      // Imports are read and answered line by line (services/patient/test/files.int.test.ts).
      types: Object.keys(requestBody?.content ?? {}).filter((type) => /^application\/([\w-]+\+)?json$/.test(type) || type === form),
    })),
  );
}

/** Sends each character of the text as one byte. */
async function send(method: string, url: string, type?: string, text = "", headers: Record<string, string> = {}) {
  const answer = await fetch(url.replace(/\{[^}]+\}/g, randomUUID()), {
    method,
    redirect: "manual",
    headers: { authorization, ...(type && { "content-type": type }), ...headers },
    ...(type && { body: Buffer.from(text, "latin1") }),
  });
  return { status: answer.status, text: await answer.text() };
}

const wrongBodies: Record<string, { type: string; text: string; headers?: Record<string, string>; status: number; says: RegExp }[]> = {
  json: [
    { type: json, text: '{"name":"Zo\xeb\xff"}', status: 400, says: /is not UTF-8/ },
    { type: json, text: '{"name":"\\ud800"}', status: 400, says: /half of a surrogate pair/ },
    { type: `${json}; charset=iso-8859-1`, text: "{}", status: 415, says: /as UTF-8/ },
    { type: json, text: "{}", headers: { "content-encoding": "gzip" }, status: 415, says: /without a content-encoding/ },
  ],
  form: [
    { type: form, text: "name=Zo\xeb\xff", status: 400, says: /is not UTF-8/ },
    { type: form, text: "name=Zo%EB%FF", status: 400, says: /is not UTF-8/ },
    { type: `${form}; charset=windows-1252`, text: "a=b", status: 415, says: /as UTF-8/ },
    { type: form, text: "a=b", headers: { "content-encoding": "gzip" }, status: 415, says: /without a content-encoding/ },
  ],
};

test("every body of every REST operation", async () => {
  const wrong: string[] = [];
  let asked = 0;
  for (const { name, method, url, types } of found) {
    for (const declared of types) {
      for (const { type, text, headers, status, says } of wrongBodies[declared === form ? "form" : "json"] ?? []) {
        asked += 1;
        const answer = await send(method, url, type.replace(json, declared === form ? json : declared), text, headers);
        if (answer.status !== status || !says.test(answer.text)) wrong.push(`${name} ${type} ${text}: ${answer.status} ${answer.text}`);
      }
    }
  }
  process.stdout.write(`${found.length} operations, ${asked} bodies refused\n`);
  const withBody = found.filter(({ types }) => types.length > 0);
  expect(withBody.filter(({ method }) => !["POST", "PUT", "PATCH"].includes(method))).toEqual([]);
  expect(withBody.length).toBeGreaterThan(20);
  expect(wrong).toEqual([]);
});

test("every parameter in a path, and any in a query, of every REST operation", async () => {
  const wrong: string[] = [];
  for (const { name, method, url } of found) {
    const inPath = [...url.matchAll(/\{(\w+)\}/g)].map(([place, path = ""]) => ({ path, target: url.replace(place, "%FF") }));
    for (const { path, target } of [...inPath, { path: "q", target: `${url}?q=%C3%28` }]) {
      const { status, text } = await send(method, target);
      const isRefused = text.includes(`"path":"${path}"`) && text.includes("is not UTF-8");
      // Operations for services refuse people before they read anything of the request.
      if (!(status === 400 && isRefused) && status !== 403) wrong.push(`${name} ${target}: ${status} ${text}`);
    }
  }
  expect(wrong).toEqual([]);
});

test("every method of billing, as JSON and as a stream of JSON", async () => {
  const wrong: string[] = [];
  for (const url of methods) {
    const isStream = /\/(WatchAccount|StreamStatement)$/.test(url);
    for (const text of ['{"name":"\xff"}', '{"name":"\\udfff"}']) {
      const framed = `\0\0\0\0${String.fromCharCode(text.length)}${text}`;
      const answer = await send("POST", url, isStream ? "application/connect+json" : json, isStream ? framed : text);
      const isRefused = /"code":"invalid_argument"/.test(answer.text) && /is not UTF-8|half of a surrogate pair/.test(answer.text);
      if (!isRefused || answer.status !== (isStream ? 200 : 400)) wrong.push(`${url} ${text}: ${answer.status} ${answer.text}`);
    }
  }
  expect(methods.length).toBeGreaterThan(15);
  expect(wrong).toEqual([]);
});

test("the gateway passes wrong bytes on, and the answer is the service's", async () => {
  const answer = await send("POST", `${platform.gatewayUrl}/patients`, json, '{"name":"\xff"}');
  expect([answer.status, answer.text]).toEqual([400, expect.stringContaining("is not UTF-8")]);
  const query = await send("GET", `${platform.gatewayUrl}/patients?q=%FF`);
  expect([query.status, query.text]).toEqual([400, expect.stringContaining("q: is not UTF-8")]);
});

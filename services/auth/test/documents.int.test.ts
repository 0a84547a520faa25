import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { operations } from "@pm/kit/auth/access";
import { afterAll, expect, test } from "vitest";
import { startAuth } from "./testing.ts";

const golden = join(import.meta.dirname, "..", "openapi.json");
const auth = await startAuth();
type Document = {
  paths: Record<string, Record<string, { operationId: string; summary?: string; tags?: string[]; security?: { bearer: string[] }[] }>>;
};
const document = (await auth.call("GET", "/openapi.json")).body;
const complete = (await auth.call("GET", "/openapi-internal.json")).body as Document;
afterAll(() => auth.stop());
const described = Object.values(complete.paths).flatMap((path) => Object.values(path));

test("the API document is the one that is checked in (UPDATE=1 writes it)", () => {
  const text = `${JSON.stringify(document, null, 2)}\n`;
  if (process.env.UPDATE === "1") writeFileSync(golden, text);
  expect(text).toBe(readFileSync(golden, "utf8"));
});

test("it has every operation of the access table, with the scope that it takes and a summary", () => {
  const listed = Object.entries(operations).filter(([name]) => name.startsWith("auth."));
  const security = (access: string) => (access === "public" ? [] : [{ bearer: access === "signed-in" ? [] : [access] }]);
  const expected = listed.map(([name, access]) => [name.slice("auth.".length), security(access)]);
  expect(new Map(described.map((operation) => [operation.operationId, operation.security]))).toEqual(new Map(expected as []));
  expect(described.filter((operation) => !operation.summary)).toEqual([]);
});

test("each operation is grouped by one noun, and those of services are left out of the published document", () => {
  expect(described.filter(({ tags }) => tags?.length !== 1)).toEqual([]);
  const internal = described.filter(({ tags }) => tags?.[0] === "Internal").map(({ operationId }) => operationId);
  expect(internal.toSorted()).toEqual(["revocations"]);
  const published = Object.values((document as Document).paths).flatMap((path) => Object.values(path));
  expect(published).toHaveLength(described.length - internal.length);
});

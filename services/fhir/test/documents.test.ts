/** The OpenAPI document, and what it says about access. */
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { operations } from "@pm/kit/auth/access";
import { expect, test } from "vitest";
import { testApp } from "./testing.ts";

const golden = join(import.meta.dirname, "..", "openapi.json");

test("the OpenAPI document is the one that was checked in (UPDATE=1 rewrites it)", async () => {
  const document = `${JSON.stringify(await (await testApp().request("/openapi.json")).json(), null, 2)}\n`;
  if (process.env.UPDATE) writeFileSync(golden, document);
  expect(document).toBe(readFileSync(golden, "utf8"));
});

test("every operation of the access table is in the document, and no other", async () => {
  const { paths } = (await (await testApp().request("/openapi-internal.json")).json()) as {
    paths: Record<string, Record<string, { operationId: string }>>;
  };
  const documented = Object.values(paths).flatMap((methods) => Object.values(methods).map(({ operationId }) => `fhir.${operationId}`));
  expect(documented.sort()).toEqual(
    Object.keys(operations)
      .filter((name) => name.startsWith("fhir."))
      .sort(),
  );
});

/** Paths of empty lists in whatever a document has of resources. */
function emptyLists(value: unknown, path: string, isResource = false): string[] {
  if (typeof value !== "object" || value === null) return [];
  if (Array.isArray(value) && value.length === 0) return isResource ? [path] : [];
  const inside = isResource || "resourceType" in value;
  return Object.entries(value).flatMap(([name, one]) => emptyLists(one, `${path}.${name}`, inside));
}

test("no example of a resource has an empty list, which FHIR does not allow", () => {
  const { components } = JSON.parse(readFileSync(golden, "utf8"));
  const examples = Object.entries<{ example?: object }>(components.schemas).map(([name, { example }]) => [name, example]);
  expect(examples.length).toBeGreaterThan(10);
  expect(examples.flatMap(([name, example]) => emptyLists(example, String(name)))).toEqual([]);
});

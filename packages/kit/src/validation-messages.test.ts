import { readFileSync } from "node:fs";
import { join } from "node:path";
import fc from "fast-check";
import { expect, test } from "vitest";
import { z } from "zod";
import "./validation-messages.ts";

const messagesOf = (schema: z.ZodType, value: unknown): string[] =>
  schema.safeParse(value).error?.issues.map(({ message }) => message) ?? [];

test.each<[message: string, schema: z.ZodType, value: unknown]>([
  ["is required", z.string(), undefined],
  ["is required", z.enum(["a", "b"]), undefined],
  ["is required", z.object({}), undefined],
  ["must be a text", z.string(), 1],
  ["must be a number", z.number(), "1"],
  ["must be a number", z.coerce.number(), "many"],
  ["must be a whole number", z.coerce.number().int(), "1.5"],
  ["must be true or false", z.boolean(), "true"],
  ["must be a list", z.array(z.string()), {}],
  ["must be an object", z.object({}), []],
  ["must be at least 1", z.number().min(1), 0],
  ["must be at most 200", z.number().max(200), 201],
  ["must be greater than 0", z.number().gt(0), 0],
  ["must be less than 5", z.number().lt(5), 5],
  ["must be a multiple of 5", z.number().multipleOf(5), 7],
  ["must not be empty", z.string().min(1), ""],
  ["must have at least 8 characters", z.string().min(8), "short"],
  ["must have at most 1 character", z.string().max(1), "ab"],
  ["must have exactly 3 characters", z.string().length(3), "ab"],
  ["must not be empty", z.array(z.int()).min(1), []],
  ["must have at most 2 items", z.array(z.int()).max(2), [1, 2, 3]],
  ["must be one of a, b, c", z.enum(["a", "b", "c"]), "d"],
  ["must be a", z.literal("a"), "d"],
  ["must be an e-mail address", z.email(), "ada"],
  ["must be a UUID", z.uuid(), "ada"],
  ["must be a URL", z.url(), "ada"],
  ["must be a date as YYYY-MM-DD", z.iso.date(), "2026-02-30"],
  ["must be a time as 2026-01-28T09:30:00Z", z.iso.datetime(), "now"],
  ['must start with "x"', z.string().startsWith("x"), "y"],
  ["must match /^\\d+$/", z.string().regex(/^\d+$/), "y"],
  ["must be digits", z.string().regex(/^\d+$/, "must be digits"), "y"],
  ["has unknown fields: b, c", z.strictObject({ a: z.string().optional() }), { b: 1, c: 2 }],
  ["must be a text, or must be a number", z.union([z.string(), z.int()]), true],
  ["is not valid", z.union([z.object({ a: z.string() }), z.object({ b: z.string() })]), {}],
  ["is not valid", z.string().refine(() => false), "x"],
])("a wrong value is explained in words that follow the name of its field: %s", (message, schema, value) => {
  expect(messagesOf(schema, value)).toEqual([message]);
});

/** What Zod says by itself, in any of its messages. */
const words = /Invalid|Too (small|big)|expected|received|Unrecognized/;

type Node = { [key: string]: unknown };
type Operation = { parameters?: { schema: Node }[]; requestBody?: { content: Record<string, { schema: Node }> } };

/** The schemas of all that callers send, as the documents of the services describe it. */
function inputs(service: string): z.ZodType[] {
  const file = join(import.meta.dirname, "../../../services", service, "openapi.json");
  const { paths, components } = JSON.parse(readFileSync(file, "utf8")) as {
    paths: Record<string, Record<string, Operation>>;
    components: Node;
  };
  const schemas = Object.values(paths).flatMap((methods) =>
    Object.values(methods).flatMap(({ parameters = [], requestBody }) => [
      ...parameters.map(({ schema }) => schema),
      ...Object.values(requestBody?.content ?? {}).map(({ schema }) => schema),
    ]),
  );
  const resolve = (node: unknown): unknown => {
    if (Array.isArray(node)) return node.map(resolve);
    if (typeof node !== "object" || node === null) return node;
    if ("$ref" in node)
      return resolve(
        String(node.$ref)
          .split("/")
          .slice(2)
          .reduce<unknown>((found, name) => (found as Node)[name], components),
      );
    return Object.fromEntries(Object.entries(node).map(([key, value]) => [key, resolve(value)]));
  };
  return schemas.map((schema) => z.fromJSONSchema(resolve(schema) as Node));
}

test.each(["patient", "auth", "analytics", "billing"])("nobody reads Zod's own words about what they send to %s", (service) => {
  const schemas = inputs(service);
  expect(schemas.length).toBeGreaterThan(0);
  const names = ["email", "name", "password", "address", "city", "dateOfBirth", "users", "teams", "roles", "limit"];
  const value = fc.oneof(fc.anything(), fc.dictionary(fc.constantFrom(...names), fc.anything(), { maxKeys: 10 }), fc.constant({}));
  fc.assert(
    fc.property(fc.constantFrom(...schemas), value, (schema, sent) => {
      for (const message of messagesOf(schema, sent)) expect(message).not.toMatch(words);
    }),
    { numRuns: 2_000 },
  );
});

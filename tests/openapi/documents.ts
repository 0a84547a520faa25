/** The published OpenAPI documents of the services, and the examples in them. */
import { globSync, readFileSync } from "node:fs";
import { basename, dirname, resolve } from "node:path";

const root = resolve(import.meta.dirname, "../..");

type Schema = {
  $ref?: string;
  properties?: Record<string, Schema>;
  required?: string[];
  items?: Schema;
  allOf?: Schema[];
  anyOf?: Schema[];
  oneOf?: Schema[];
  enum?: unknown[];
  const?: unknown;
  default?: unknown;
  example?: unknown;
  examples?: unknown[];
};
export type Described = { schema?: Schema; example?: unknown; examples?: Record<string, { value: unknown }> };
type Parameter = Described & { name: string; in: "path" | "query" | "header" | "cookie"; required?: boolean };
type Operation = {
  operationId: string;
  summary?: string;
  tags?: string[];
  security?: Record<string, string[]>[];
  parameters?: Parameter[];
  requestBody?: { content: Record<string, Described> };
  responses: Record<string, { content?: Record<string, Described> }>;
};
type Document = { components: object; paths: Record<string, Record<string, Operation>> };

export const services = globSync("services/*/openapi.json", { cwd: root })
  .map((file) => {
    const text = readFileSync(resolve(root, file), "utf8");
    return { service: basename(dirname(file)), file: resolve(root, file), document: JSON.parse(text) as Document };
  })
  .sort((a, b) => a.service.localeCompare(b.service));

/** The operations of a document with references resolved, each with its method and path. */
export function operationsOf(document: Document) {
  return Object.entries(document.paths).flatMap(([path, methods]) =>
    Object.entries(methods).map(([method, { parameters = [], responses, ...operation }]) => ({
      ...operation,
      method,
      path,
      parameters: parameters.map((parameter) => resolveReference(document, parameter)),
      responses: Object.fromEntries(Object.entries(responses).map(([status, answer]) => [status, resolveReference(document, answer)])),
    })),
  );
}

/** The node that a node refers to by `$ref`, with what it adds to it, or the node itself. */
function resolveReference<Node extends object>(document: Document, node: Node & { $ref?: string }): Node {
  const { $ref, ...added } = node;
  if ($ref === undefined) return node;
  const keys = $ref.slice("#/".length).split("/");
  const target = keys.reduce((at, key) => (at as Record<string, unknown>)[key], document as unknown);
  return { ...resolveReference(document, target as Node), ...added };
}

/**
 * The example of a body, an answer or a parameter: the one that it gives, or one made of the examples of its fields, as
 * tools that show documents make it. Undefined if it has none.
 */
export function exampleOf(document: Document, { schema, example, examples }: Described): unknown {
  return example ?? Object.values(examples ?? {})[0]?.value ?? (schema && exampleOfSchema(document, schema));
}

function exampleOfSchema(document: Document, schema: Schema): unknown {
  const { properties, required = [], items, ...rest } = resolveReference(document, schema);
  const given = rest.example ?? rest.examples?.[0] ?? rest.const ?? rest.enum?.[0] ?? rest.default;
  if (given !== undefined) return given;
  if (items) {
    const item = exampleOfSchema(document, items);
    return item === undefined ? undefined : [item];
  }
  if (properties) {
    const fields = Object.entries(properties).map(([name, field]) => [name, exampleOfSchema(document, field)] as const);
    const known = fields.filter(([, value]) => value !== undefined);
    const names = known.map(([name]) => name);
    return required.every((name) => names.includes(name)) && names.length > 0 ? Object.fromEntries(known) : undefined;
  }
  for (const choice of rest.allOf ?? rest.anyOf ?? rest.oneOf ?? []) {
    const value = exampleOfSchema(document, choice);
    if (value !== undefined) return value;
  }
  return undefined;
}

/** An example, with the JSON pointer of its place and the schema that describes it. */
type Example = { at: string; schema: Schema; value: unknown };

/** Every example that a document gives, of bodies, answers, parameters, headers and schemas. */
export function examplesIn(document: Document): Example[] {
  return examplesAt(document, "");
}

const isObject = (value: unknown): value is Record<string, unknown> => typeof value === "object" && value !== null;

const child = (at: string, key: string) => `${at}/${key.replaceAll("~", "~0").replaceAll("/", "~1")}`;

function examplesAt(node: unknown, at: string): Example[] {
  if (!isObject(node)) return [];
  const { example, examples, schema, ...others } = node as Described;
  const found: Example[] = [];
  if (schema) {
    found.push(...examplesOfSchema(schema, `${at}/schema`));
    if (example !== undefined) found.push({ at: `${at}/example`, schema, value: example });
    for (const [name, { value }] of Object.entries(examples ?? {})) found.push({ at: child(`${at}/examples`, name), schema, value });
  }
  for (const [key, value] of Object.entries(others)) {
    const inside = child(at, key);
    found.push(...(inside === "/components/schemas" ? examplesOfSchemas(value, inside) : examplesAt(value, inside)));
  }
  return found;
}

function examplesOfSchemas(schemas: unknown, at: string): Example[] {
  return isObject(schemas) ? Object.entries(schemas).flatMap(([key, schema]) => examplesOfSchema(schema, child(at, key))) : [];
}

/** Keywords whose values are data and no schemas. */
const dataKeywords = ["example", "examples", "const", "enum", "default", "required"];
/** Keywords whose values are schemas by name. */
const mapKeywords = ["properties", "patternProperties", "dependentSchemas", "$defs"];

function examplesOfSchema(schema: unknown, at: string): Example[] {
  if (!isObject(schema)) return [];
  const { example, examples = [] } = schema as Schema;
  const found: Example[] = examples.map((value, index) => ({ at: `${at}/examples/${index}`, schema, value }));
  if (example !== undefined) found.push({ at: `${at}/example`, schema, value: example });
  for (const [key, value] of Object.entries(schema)) {
    if (dataKeywords.includes(key)) continue;
    const inside = child(at, key);
    found.push(...(mapKeywords.includes(key) || Array.isArray(value) ? examplesOfSchemas(value, inside) : examplesOfSchema(value, inside)));
  }
  return found;
}

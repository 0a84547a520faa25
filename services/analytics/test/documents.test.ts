import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import type { RouteConfig, z } from "@hono/zod-openapi";
import { registerTrail } from "@pm/kit/auditor/rest";
import { operations } from "@pm/kit/auth/access";
import { createRestApp, type RestApp } from "@pm/kit/http/rest";
import { createLogger } from "@pm/kit/log";
import { expect, test } from "vitest";
import { registerDashboard } from "../src/dashboard/rest.ts";
import { registerErasures } from "../src/erasure/rest.ts";
import { registerOperations } from "../src/operations/rest.ts";
import { registerReports } from "../src/reports/rest.ts";
import { about } from "../src/reports/schemas.ts";

const golden = join(import.meta.dirname, "..", "openapi.json");
const lifecycle = { onClose: () => undefined, onReady: () => undefined, notReady: async () => [], shutdown: async () => undefined };
const verifier = { verify: () => Promise.reject(new Error("no call is verified")), onRevoked: () => () => undefined };

type Example = { example?: unknown };
type Content = Record<string, Example & { schema: Example & { $ref?: string } }>;
type Operation = {
  operationId: string;
  tags?: string[];
  security?: { bearer: string[] }[];
  parameters?: { name: string; in: string; schema: Example }[];
  requestBody?: { content: Content };
  responses: Record<string, { content?: Content }>;
};
type Document = { paths: Record<string, Record<string, Operation>>; components: { schemas: Record<string, Example> } };

const rest = createRestApp({
  service: "analytics",
  ...about,
  log: createLogger("test", "silent"),
  lifecycle,
  verifier,
  audit: { record: async () => undefined },
});
const routes = new Map<string, RouteConfig>();
const recording = {
  ...rest,
  operation(route: RouteConfig & { operationId: string }, handler: never) {
    routes.set(route.operationId, route);
    rest.operation(route, handler);
  },
} as RestApp;
registerReports(recording, {} as never);
registerOperations(recording, {} as never);
registerErasures(recording, {} as never);
registerDashboard(recording, {} as never);
registerTrail(recording, { service: "analytics" } as never);

const read = async (path: string) => (await (await rest.app.request(path)).json()) as Document;
const document = await read("/openapi.json");
const complete = await read("/openapi-internal.json");
const described = Object.values(complete.paths).flatMap((methods) => Object.values(methods));

test("the OpenAPI document is the one that was checked in (UPDATE=1 rewrites it)", async () => {
  const text = `${JSON.stringify(document, null, 2)}\n`;
  if (process.env.UPDATE) writeFileSync(golden, text);
  expect(text).toBe(readFileSync(golden, "utf8"));
});

test("every operation of the access table is in the document with its scope, and no other", async () => {
  const documented = described.map(({ operationId, security }) => [`analytics.${operationId}`, security?.[0]?.bearer[0] ?? "public"]);
  const listed = Object.entries(operations).filter(([name]) => name.startsWith("analytics."));
  expect(Object.fromEntries(documented)).toEqual(Object.fromEntries(listed));
});

test("each operation is grouped by one noun", () => {
  expect(described.filter(({ tags }) => tags?.length !== 1)).toEqual([]);
});

test("each body and each answer has an example that its own schema accepts", () => {
  for (const { operationId, requestBody, responses } of described) {
    const route = routes.get(operationId);
    const body = route?.request?.body?.content;
    const contents: [string, Content | undefined, unknown][] = [
      ["body", requestBody?.content, body],
      ...Object.entries(responses).flatMap(([status, { content }]): [string, Content | undefined, unknown][] =>
        status.startsWith("2")
          ? [[status, content, route?.responses[status] && "content" in route.responses[status] && route.responses[status].content]]
          : [],
      ),
    ];
    for (const [where, documented = {}, declared] of contents)
      for (const [mediaType, { example, schema }] of Object.entries(documented)) {
        const component = complete.components.schemas[schema.$ref?.split("/").at(-1) ?? ""];
        const value = example ?? schema.example ?? component?.example;
        const own = (declared as Record<string, { schema: z.ZodType }>)[mediaType]?.schema;
        expect(value, `${operationId} ${where} ${mediaType}`).toBeDefined();
        expect(own?.parse(value), `${operationId} ${where} ${mediaType}`).toEqual(value);
      }
  }
});

test("each example of a parameter is accepted by its own schema", () => {
  for (const { operationId, parameters = [] } of described)
    for (const { name, in: place, schema } of parameters) {
      const { query, params } = routes.get(operationId)?.request ?? {};
      const shape = ((place === "path" ? params : query) as z.ZodObject).shape as Record<string, z.ZodType>;
      if (schema.example !== undefined) expect(shape[name]?.parse(schema.example), `${operationId} ${name}`).toEqual(schema.example);
    }
});

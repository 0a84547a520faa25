import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { operations } from "@pm/kit/auth/access";
import { createRestApp } from "@pm/kit/http/rest";
import { createLogger } from "@pm/kit/log";
import { expect, test } from "vitest";
import { registerDashboard } from "../src/dashboard/rest.ts";
import { registerAdmin } from "../src/operations/rest.ts";
import { registerReports } from "../src/reports/rest.ts";
import { about } from "../src/reports/schemas.ts";

const golden = join(import.meta.dirname, "..", "openapi.json");
const lifecycle = { onClose: () => undefined, onReady: () => undefined, notReady: async () => [], shutdown: async () => undefined };

async function documentOf(path: string): Promise<{
  paths: Record<string, Record<string, { operationId: string; security?: { bearer: string[] }[] }>>;
}> {
  const verifier = { verify: () => Promise.reject(new Error("nobody is asked")), onRevoked: () => () => undefined };
  const rest = createRestApp({ service: "analytics", ...about, log: createLogger("test", "silent"), lifecycle, verifier });
  registerReports(rest, {} as never);
  registerAdmin(rest, {} as never);
  registerDashboard(rest, {} as never);
  return (await rest.app.request(path)).json() as ReturnType<typeof documentOf>;
}

test("the OpenAPI document is the one that was checked in (UPDATE=1 rewrites it)", async () => {
  const document = `${JSON.stringify(await documentOf("/openapi.json"), null, 2)}\n`;
  if (process.env.UPDATE) writeFileSync(golden, document);
  expect(document).toBe(readFileSync(golden, "utf8"));
});

test("every operation of the access table is in the document with its scope, and no other", async () => {
  const { paths } = await documentOf("/openapi-internal.json");
  const documented = Object.values(paths).flatMap((methods) =>
    Object.values(methods).map(({ operationId, security }) => [`analytics.${operationId}`, security?.[0]?.bearer[0] ?? "public"]),
  );
  const listed = Object.entries(operations).filter(([name]) => name.startsWith("analytics."));
  expect(Object.fromEntries(documented)).toEqual(Object.fromEntries(listed));
});

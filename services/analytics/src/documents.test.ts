import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { createLogger } from "@pm/kit/log";
import { createRestApp } from "@pm/kit/rest";
import { expect, test } from "vitest";
import { registerAdmin } from "./admin.ts";
import { registerDashboard } from "./dashboard.ts";
import { about } from "./documents.ts";
import { registerReports } from "./rest.ts";

const golden = join(import.meta.dirname, "..", "openapi.json");
const lifetime = { onClose: () => undefined, onReady: () => undefined, notReady: async () => [], shutdown: async () => undefined };

test("the OpenAPI document is the one that was checked in (UPDATE=1 rewrites it)", async () => {
  const verifier = { verify: () => Promise.reject(new Error("nobody is asked")) };
  const rest = createRestApp({ service: "analytics", ...about, log: createLogger("test", "silent"), lifetime, verifier });
  registerReports(rest, {} as never);
  registerAdmin(rest, {} as never);
  registerDashboard(rest, {} as never);
  const document = `${JSON.stringify(await (await rest.app.request("/openapi.json")).json(), null, 2)}\n`;
  if (process.env.UPDATE) writeFileSync(golden, document);
  expect(document).toBe(readFileSync(golden, "utf8"));
});

/** docs/billing.md agrees with the proto files, and every method has an example request. tests/e2e runs its tour. */
import { readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { BillingService } from "@pm/proto/billing/v1/billing";
import { expect, test } from "vitest";
import { renderReference } from "./reference.ts";

const root = join(import.meta.dirname, "../../..");
const page = join(root, "docs/billing.md");
const read = () => readFileSync(page, "utf8");

test("the reference is what the comments of the proto file say", () => {
  const [text, marker = ""] = [read(), /^<!-- Made from .*-->$/m.exec(read())?.[0]];
  const current = `${text.slice(0, text.indexOf(marker) + marker.length)}\n\n${renderReference("billing/v1/billing.proto")}\n`;
  if (process.env.UPDATE === "1") writeFileSync(page, current);
  expect(read(), "run it with UPDATE=1").toBe(current);
  expect(current).not.toContain("undefined");
});

test("every method has an example request", () => {
  const folder = join(root, "grpc-requests");
  const text = readdirSync(folder)
    .map((file) => readFileSync(join(folder, file), "utf8"))
    .join("\n");
  for (const { name } of BillingService.methods) expect(text).toContain(`billing.v1.BillingService/${name}\n`);
});

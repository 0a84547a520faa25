import { readFileSync } from "node:fs";
import { join } from "node:path";
import { expect, test } from "vitest";
import { roles } from "./access.ts";

test("docs/identity.md has every role with its scopes", () => {
  const page = readFileSync(join(import.meta.dirname, "../../../../docs/identity.md"), "utf8");
  const section = /^## Roles\n([\s\S]*?)^## /m.exec(page)?.[1] ?? "";
  const rows = [...section.matchAll(/^\| `(\w+)` \| (.*) \|$/gm)];
  expect(rows.map(([, role, scopes = ""]) => [role, [...scopes.matchAll(/`([^`]+)`/g)].map(([, scope]) => scope)])).toEqual(
    Object.entries(roles).map(([role, scopes]) => [role, [...scopes]]),
  );
});

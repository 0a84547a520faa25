import { expect, test } from "vitest";
import { auditTables, checkTables, deadLetterTables, outboxTables, readTables } from "./tables.ts";

test("kit's own tables are as its types say", async () => {
  // Analytics has all of them.
  expect(await readTables("analytics")).toMatchObject({ ...auditTables, ...checkTables, ...outboxTables, ...deadLetterTables });
});

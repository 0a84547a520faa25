/** Audit coverage: every operation of every service is carried out, and leaves the entry that the table says. */
import { randomUUID } from "node:crypto";
import { query } from "@pm/stack/native/postgres";
import { afterAll, beforeAll, expect, test } from "vitest";
import { auditTable } from "./audit-table.ts";
import { platform, send, startScene, stopScene } from "./scene.ts";

beforeAll(startScene);
afterAll(stopScene);

/** The actions that a request has left in the audit trail of a service. */
function actionsOf(service: keyof typeof platform.databases, requestId: string): Promise<string[]> {
  return query(platform.databases[service].databaseUrl, async (client) => {
    const { rows } = await client.query<{ action: string }>("select action from audit_entries where request_id = $1", [requestId]);
    return rows.map(({ action }) => action);
  });
}

test("every operation that returns somebody's data or changes something leaves an audit entry", async () => {
  const wrong: string[] = [];
  let carriedOut = 0;
  for (const [operation, row] of Object.entries(auditTable)) {
    if ("none" in row) continue;
    const service = operation.split(".")[0] as keyof typeof platform.services;
    const requestId = randomUUID();
    const call = await row.by();
    const { status, text } = await send(platform.services[service].url, {
      ...call,
      headers: { ...call.headers, "x-request-id": requestId },
    });
    carriedOut += 1;
    // Mails, and the entries of their links, follow the answer.
    const found = () => actionsOf(row.in ?? (service as keyof typeof platform.databases), requestId);
    await expect
      .poll(found, { timeout: 5_000 })
      .toContain(row.leaves)
      .catch(async () => {
        wrong.push(`${operation}: ${status} left [${await found()}] instead of ${row.leaves}: ${text.slice(0, 200)}`);
      });
  }
  process.stdout.write(`${carriedOut} operations carried out\n`);
  expect(wrong).toEqual([]);
});

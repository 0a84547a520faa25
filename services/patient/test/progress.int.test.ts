/** How far imports are, what was wrong, and their end by request, over a real Postgres. */
import { randomUUID } from "node:crypto";
import { expect, test } from "vitest";
import { type Client, patientsOfThisFile, someBody } from "./testing.ts";

const { service, admin } = await patientsOfThisFile();

const ndjson = { "content-type": "application/x-ndjson" };
const file = (count: number) =>
  Array.from(
    { length: count },
    (_, index) => `${JSON.stringify(someBody(index % 100 === 0 ? { email: "wrong" } : {})).padEnd(1_000)}\n`,
  ).join("");

/** An import that waits for the rest of its file, with more than a thousand lines stored. */
async function startSlowly(client: Client, text: string, key: string, query = "") {
  const rest = Promise.withResolvers<void>();
  const [first, second] = [text.slice(0, 1_300_000), text.slice(1_300_000)].map((part) => new TextEncoder().encode(part));
  const body = new ReadableStream<Uint8Array>({
    start: (controller) => controller.enqueue(first as Uint8Array),
    async pull(controller) {
      await rest.promise;
      controller.enqueue(second as Uint8Array);
      controller.close();
    },
  });
  const headers = { authorization: `Bearer ${client.caller.token}`, ...ndjson, "idempotency-key": key };
  const request = new Request(`http://localhost/patients:import${query}`, { method: "POST", body, headers, duplex: "half" } as RequestInit);
  const answer = Promise.resolve(service.app.request(request)).then(async (response) => ({
    status: response.status,
    ...((await response.json()) as object),
  }));
  await expect.poll(async () => (await client.send("GET", "/patients/imports")).body.items[0]?.lines, { timeout: 10_000 }).toBe(1_000);
  return { answer, sendRest: rest.resolve };
}

test("an import says how far it is while it runs, can be cancelled, and goes on when it is sent again", async () => {
  const [client, key, text] = [service.as("user"), randomUUID(), file(2_500)];
  const { answer, sendRest } = await startSlowly(client, text, key);
  const [running] = (await client.send("GET", "/patients/imports")).body.items;
  expect(running).toMatchObject({ key, mode: "create", dryRun: false, status: "running", lines: 1_000, created: 990, failed: 10 });
  const path = `/patients/imports/${running.importId}`;
  expect((await client.send("POST", `${path}:cancel`)).body).toMatchObject({ status: "cancelled", lines: 1_000 });
  sendRest();
  expect(await answer).toMatchObject({
    status: 409,
    detail: expect.stringMatching(/^The import was cancelled. 990 patients of the first 1000 lines are stored; 10 of these lines failed/),
  });
  expect((await client.send("GET", path)).body).toMatchObject({ status: "cancelled", lines: 1_000 });
  const again = await client.send("POST", "/patients:import", text, { ...ndjson, "idempotency-key": key });
  expect(again.body).toMatchObject({ importId: running.importId, lines: 2_500, created: 2_475, failed: 25 });
  expect((await client.send("GET", path)).body).toMatchObject({ status: "finished", lines: 2_500 });
  expect((await client.send("POST", `${path}:cancel`)).body).toMatchObject({ status: "finished" });
  const { rows } = await service.db.pool.query("select count(*)::int as n from audit_entries where action = 'import.cancelled'");
  expect(rows[0].n).toBe(1);
});

test("a request that finds its import running does not end what the progress says of it", async () => {
  const [client, key, text] = [service.as("user"), randomUUID(), file(2_500)];
  const { answer, sendRest } = await startSlowly(client, text, key);
  const [{ importId }] = (await client.send("GET", "/patients/imports")).body.items;
  const other = await client.send("POST", "/patients:import", file(1_100), { ...ndjson, "idempotency-key": key });
  expect(other.body).toMatchObject({ code: "idempotency_key_reused" });
  expect((await client.send("GET", `/patients/imports/${importId}`)).body).toMatchObject({ status: "running" });
  sendRest();
  expect(await answer).toMatchObject({ lines: 2_500 });
});

test("errors are CSV that no spreadsheet runs", async () => {
  const lines = `${JSON.stringify(someBody({ "=SUM(1)": 1 }))}\n{"name":"Ada"\n`;
  const { importId } = (await admin.send("POST", "/patients:import", lines, ndjson)).body;
  const { text, headers } = await admin.send("GET", `/patients/imports/${importId}/errors`);
  expect(headers.get("content-type")).toBe("text/csv; charset=utf-8");
  expect(text).toBe("line,column,message\n1,'=SUM(1),is not a known field; check its spelling\n2,,is not valid JSON\n");
});

test("nobody sees or cancels the imports of others", async () => {
  const { importId } = (await admin.send("POST", "/patients:import", file(1), ndjson)).body;
  const other = service.as("admin");
  expect((await other.send("GET", "/patients/imports")).body.items).toEqual([]);
  for (const [method, path] of [
    ["GET", ""],
    ["GET", "/errors"],
    ["POST", ":cancel"],
  ] as const)
    expect((await other.send(method, `/patients/imports/${importId}${path}`)).status).toBe(404);
  expect((await admin.send("GET", "/patients/imports/nonsense")).status).toBe(404);
});

test("an import of updates that was cancelled goes on, and changes nobody twice", async () => {
  const [client, key] = [service.as("user"), randomUUID()];
  const created = await client.send("POST", "/patients:import", file(1_500).replaceAll('"email":"wrong"', '"email":null'), ndjson);
  expect(created.body.created).toBe(1_485);
  const { items } = (await client.send("GET", "/patients?limit=200")).body;
  const text = Array.from(
    { length: 1_500 },
    (_, index) => `${JSON.stringify({ id: items[index % 200].id, sex: index < 200 ? "female" : undefined }).padEnd(1_000)}\n`,
  ).join("");
  const { answer, sendRest } = await startSlowly(client, text, key, "?mode=update");
  const [{ importId }] = (await client.send("GET", "/patients/imports")).body.items;
  await client.send("POST", `/patients/imports/${importId}:cancel`);
  sendRest();
  expect((await answer).status).toBe(409);
  const again = await client.send("POST", "/patients:import?mode=update", text, { ...ndjson, "idempotency-key": key });
  expect(again.body).toMatchObject({ importId, lines: 1_500, updated: 200, unchanged: 1_300, failed: 0 });
  const versions = (await client.send("GET", "/patients?limit=200")).body.items.map(({ version }: { version: number }) => version);
  expect(new Set(versions)).toEqual(new Set([2]));
});

/** What the audit trail has of reads and refusals. */
import { randomUUID } from "node:crypto";
import { expect, test } from "vitest";
import { type Client, patientsOfThisFile, someBody } from "./testing.ts";

const { service, admin } = await patientsOfThisFile();

/** Sends a request, and gives its status and the entries that it left. */
async function entriesOf(client: Client, method: string, path: string, body?: unknown, headers: Record<string, string> = {}) {
  const requestId = randomUUID();
  const { status, text } = await client.send(method, path, body, { ...headers, "x-request-id": requestId });
  const { rows } = await service.db.pool.query(
    "select actor, action, subject, details from audit_entries where request_id = $1 order by id",
    [requestId],
  );
  for (const row of rows) expect(row.actor).toBe(client.caller.id);
  return { status, text, entries: rows.map(({ action, subject, details }) => ({ action, subject, details })) };
}

test("a change that changes nothing, a repeated create and a look at sharing are reads", async () => {
  const body = someBody();
  const key = { "idempotency-key": randomUUID() };
  const { id } = (await admin.send("POST", "/patients", body, key)).body;
  const read = { action: "patient.read", subject: id, details: { version: 1 } };
  expect(await entriesOf(admin, "PATCH", `/patients/${id}`, {})).toMatchObject({ status: 200, entries: [read] });
  expect(await entriesOf(admin, "PUT", `/patients/${id}`, body)).toMatchObject({ status: 200, entries: [read] });
  expect(await entriesOf(admin, "POST", `/patients/${id}:restore`)).toMatchObject({ status: 200, entries: [read] });
  const repeated = { ...read, details: { version: 1, repeated: true } };
  expect(await entriesOf(admin, "POST", "/patients", body, key)).toMatchObject({ status: 201, entries: [repeated] });
  const sharing = { action: "patient.sharing_read", subject: id, details: {} };
  expect(await entriesOf(admin, "GET", `/patients/${id}/access`)).toMatchObject({ status: 200, entries: [sharing] });
  const shared = await entriesOf(admin, "PUT", `/patients/${id}/access`, { users: [], teams: [] });
  expect(shared.entries).toMatchObject([{ action: "patient.shared" }]);
  expect(JSON.parse(shared.text)).toEqual({
    ...{ registeredBy: admin.caller.id, owner: admin.caller.id },
    ...{ users: [], teams: [], readers: { users: [], teams: [] } },
  });
});

test("every import leaves an entry, a dry run and a repetition too", async () => {
  const file = `${JSON.stringify(someBody())}\n`;
  const importOf = (query: string, key: string) =>
    entriesOf(admin, "POST", `/patients:import${query}`, file, { "content-type": "application/x-ndjson", "idempotency-key": key });
  const key = randomUUID();
  expect((await importOf("?dryRun=true", key)).entries).toMatchObject([{ action: "import.begun", details: { dryRun: true } }]);
  const real = await importOf("", key);
  expect(real.entries).toMatchObject([{ action: "import.begun", details: { dryRun: false } }, { action: "patient.imported" }]);
  expect((await importOf("", key)).entries).toMatchObject([{ action: "import.repeated", subject: real.entries[0]?.subject }]);
});

test("who asks for a patient that they may not see, or that does not exist, leaves the same entry", async () => {
  const { id } = (await admin.send("POST", "/patients", someBody())).body;
  const stranger = service.as("user");
  const requests: [string, string, unknown?][] = [
    ["GET", ""],
    ["HEAD", ""],
    ["PATCH", "", {}],
    ["DELETE", ""],
    ["POST", ":restore"],
    ["GET", "/history"],
    ["GET", "/versions/1"],
    ["GET", "/access"],
    ["PUT", "/access", { users: [], teams: [] }],
  ];
  for (const subject of [id, randomUUID()])
    for (const [method, path, body] of requests) {
      const { status, entries } = await entriesOf(stranger, method, `/patients/${subject}${path}`, body);
      const details = { operation: expect.stringMatching(/^patient\./), code: "not_found" };
      expect({ method, path, status, entries }).toEqual({
        ...{ method, path, status: 404 },
        entries: [{ action: "access.refused", subject, details }],
      });
    }
  const refused = await entriesOf(service.as("analyst"), "GET", `/patients/${id}`);
  expect(refused).toMatchObject({ status: 403, entries: [{ action: "access.refused", subject: "patient.getPatient" }] });
  expect((await entriesOf(stranger, "GET", "/patients/ada@example.com")).entries).toEqual([]);
});

/** Break glass: what opens a record in an emergency, for how long, for whom, and what it leaves. */
import { randomUUID } from "node:crypto";
import { metrics } from "@pm/kit/metrics";
import { query } from "@pm/stack/native/postgres";
import { expect, test } from "vitest";
import { type Client, patientsOfThisFile, someBody } from "./testing.ts";

const { database, service, admin } = await patientsOfThisFile();
const auditor = service.as("auditor");
const reason = { "x-emergency-reason": "Unconscious in the emergency room" };

async function create(by: Client = admin): Promise<string> {
  return (await by.send("POST", "/patients", someBody())).body.id;
}
const opened = async () => Number((await metrics.getSingleMetricAsString("patient_emergency_accesses_total")).match(/ (\d+)$/m)?.[1]);

test("with a reason, clinical staff read one record that nobody has shared with them, and no other", async () => {
  const [id, other] = [await create(), await create()];
  const nurse = service.as("user");
  const before = await opened();
  expect((await nurse.send("GET", `/patients/${id}`)).status).toBe(404);
  const answer = await nurse.send("GET", `/patients/${id}`, undefined, reason);
  expect(answer).toMatchObject({ status: 200, body: { id } });
  expect((await opened()) - before).toBe(1);

  // From now on it is as if the record were shared with them for reading.
  for (const path of [`/patients/${id}`, `/patients/${id}/history`, `/patients?q=${id}`])
    expect([path, (await nurse.send("GET", path)).status]).toEqual([path, 200]);
  for (const path of ["/patients", "/patients?q=lovelace", "/patients:export"]) {
    const { text } = await nurse.send("GET", path);
    expect([path, text.includes(id), text.includes(other)]).toEqual([path, true, false]);
  }
  expect((await nurse.send("PATCH", `/patients/${id}`, { name: "Changed" })).status).toBe(403);
  expect((await nurse.send("GET", `/patients/${other}`)).status).toBe(404);
  expect((await service.as("user").send("GET", `/patients/${id}`)).status).toBe(404);
  // Nothing more is opened while it is open.
  expect((await nurse.send("GET", `/patients/${id}`, undefined, reason)).status).toBe(200);
  expect((await opened()) - before).toBe(1);
});

test("the id of a record that was merged opens its survivor", async () => {
  const [id, duplicateId] = [await create(), await create()];
  const merged = await admin.send("POST", `/patients/${id}:merge`, { duplicateId, duplicateVersion: 1 }, { "if-match": '"1"' });
  expect(merged.status, merged.text).toBe(200);
  const nurse = service.as("user");
  expect(await nurse.send("GET", `/patients/${duplicateId}`, undefined, reason)).toMatchObject({ status: 200, body: { id } });
  expect((await nurse.send("GET", `/patients/${id}`)).status).toBe(200);
});

test("a record closes again after four hours", async () => {
  const id = await create();
  const nurse = service.as("user");
  await nurse.send("GET", `/patients/${id}`, undefined, reason);
  const { rows } = await query(database.migrationDatabaseUrl, (owner) =>
    owner.query("select expires_at - opened_at as hours from emergency_accesses where patient_id = $1", [id]),
  );
  expect(rows).toEqual([{ hours: { hours: 4 } }]);
  await query(database.migrationDatabaseUrl, (owner) =>
    owner.query("update emergency_accesses set expires_at = now() where patient_id = $1", [id]),
  );
  expect((await nurse.send("GET", `/patients/${id}`)).status).toBe(404);
  expect((await nurse.send("GET", "/patients")).body.items).toEqual([]);
});

test("the trail has who opened it, without the reason; auditors read the reason in the list of emergencies", async () => {
  const id = await create();
  const nurse = service.as("user");
  const requestId = randomUUID();
  await nurse.send("GET", `/patients/${id}`, undefined, { ...reason, "x-request-id": requestId });
  const { body: trail } = await auditor.send("GET", `/audit/patient?requestId=${requestId}`);
  expect(trail.items.map(({ action, subject }: { action: string; subject: string }) => [action, subject])).toEqual([
    ["patient.read", id],
    ["patient.emergency_opened", id],
  ]);
  expect(JSON.stringify(trail)).not.toContain("Unconscious");
  const { status, body } = await auditor.send("GET", "/patients/emergencies?limit=1");
  expect(status).toBe(200);
  expect(body.items).toMatchObject([
    {
      patientId: id,
      userId: nurse.caller.id,
      reason: reason["x-emergency-reason"],
      requestId,
      emergencyId: trail.items[1].details.emergencyId,
    },
  ]);
  const next = await auditor.send("GET", `/patients/emergencies?cursor=${body.nextCursor}`);
  expect(next.body.items.map(({ patientId }: { patientId: string }) => patientId)).not.toContain(id);
  for (const role of ["admin", "user", "billing"] as const)
    expect([role, (await service.as(role).send("GET", "/patients/emergencies")).status]).toEqual([role, 403]);
});

test("it opens nothing for others: programs are refused, and who sees all patients or owns the record needs no emergency", async () => {
  const owner = service.as("user");
  const id = await create(owner);
  const before = await opened();
  for (const path of [id, randomUUID()]) {
    const refused = await service.as(["patient:read"]).send("GET", `/patients/${path}`, undefined, reason);
    expect(refused).toMatchObject({ status: 403, body: { detail: expect.stringContaining("patient:emergency") } });
  }
  for (const who of [owner, admin, service.as("billing")])
    expect((await who.send("GET", `/patients/${id}`, undefined, reason)).status).toBe(200);
  for (const path of [randomUUID(), "nobody"]) expect((await owner.send("GET", `/patients/${path}`, undefined, reason)).status).toBe(404);
  await owner.send("DELETE", `/patients/${id}`);
  expect((await service.as("user").send("GET", `/patients/${id}`, undefined, reason)).status).toBe(404);
  expect((await opened()) - before).toBe(0);
});

test.each([
  ["too short", "urgent"],
  ["too long", "x".repeat(501)],
  ["only spaces", " ".repeat(20)],
])("a reason that is %s opens nothing", async (_, text) => {
  const id = await create();
  const { status, body } = await service.as("user").send("GET", `/patients/${id}`, undefined, { "x-emergency-reason": text });
  expect({ status, path: body.errors?.[0].path }).toEqual({ status: 400, path: "x-emergency-reason" });
});

test("nobody changes or removes an emergency with the rights of the service", async () => {
  for (const statement of ["update emergency_accesses set reason = 'x'", "delete from emergency_accesses"])
    await expect(service.db.pool.query(statement)).rejects.toThrow("permission denied");
});

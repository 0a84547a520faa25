/** The content of versions, over a real Postgres. */
import { createLogger } from "@pm/kit/log";
import { openDatabase } from "@pm/kit/postgres/database";
import { expect, test } from "vitest";
import { patientsOfThisFile, someBody } from "./testing.ts";

const { database, service, admin } = await patientsOfThisFile();

const create = async (by = admin, fields: Record<string, unknown> = {}) =>
  (await by.send("POST", "/patients?duplicates=allow", someBody(fields))).body;
/** A patient without what is not part of a version. */
const contentOf = ({ billing: _billing, possibleDuplicates: _possible, ...content }: Record<string, unknown>) => content;

test("each version is as the answer of its write was, whatever was changed since", async () => {
  const owner = service.as("user");
  const first = await create(owner, { sex: "female", phones: [{ value: "+12175550123", use: "mobile" }] });
  const path = `/patients/${first.id}`;
  const second = (await admin.send("PATCH", path, { name: "Ada King", sex: null })).body;
  await owner.send("DELETE", path);
  const fourth = (await owner.send("POST", `${path}:restore`, { phones: null })).body;
  for (const [written, action, by] of [
    [first, "registered", owner],
    [second, "updated", admin],
    [fourth, "restored", owner],
  ] as const) {
    const { status, body, headers } = await owner.send("GET", `${path}/versions/${written.version}`);
    expect([status, headers.get("etag")]).toEqual([200, `"${written.version}"`]);
    expect(body).toEqual({ ...contentOf(written), action, by: by.caller.id });
  }
});

test("the version by which a patient was deleted is gone, and those before it stay", async () => {
  const patient = await create();
  const path = `/patients/${patient.id}`;
  await admin.send("DELETE", path);
  const { status, body } = await admin.send("GET", `${path}/versions/2`);
  expect([status, body.code, body.reason, body.metadata]).toEqual([
    410,
    "gone",
    "DELETED",
    { version: "2", at: expect.stringMatching(/^\d{4}-/) },
  ]);
  expect((await admin.send("GET", `${path}/versions/1`)).body).toMatchObject({ name: patient.name, version: 1 });
});

test("a version that is not there, or no number, is 404", async () => {
  const { id } = await create();
  for (const version of ["2", "0", "-1", "1.0", "1e0", "01", "x", "9007199254740993", "99999999999999999999"])
    expect([version, (await admin.send("GET", `/patients/${id}/versions/${version}`)).status]).toEqual([version, 404]);
});

test("versions of a merged record stay readable at both ids, and the last one says where it leads", async () => {
  const [survivor, duplicate] = [await create(), await create(admin, { name: "Ada Byron" })];
  const merged = await admin.send(
    "POST",
    `/patients/${survivor.id}:merge`,
    { duplicateId: duplicate.id, duplicateVersion: 1 },
    { "if-match": '"1"' },
  );
  expect(merged.status).toBe(200);
  const versionOf = async (id: string, version: number) => (await admin.send("GET", `/patients/${id}/versions/${version}`)).body;
  expect(await versionOf(duplicate.id, 1)).toEqual({
    ...contentOf(duplicate),
    ...{ action: "registered", by: admin.caller.id, mergedInto: survivor.id },
  });
  expect(await versionOf(survivor.id, 1)).toEqual({ ...contentOf(survivor), action: "registered", by: admin.caller.id });
  expect(await versionOf(survivor.id, 2)).toMatchObject({ action: "merged", version: 2 });
});

test("reading a version is in the audit trail, and whoever may not see the patient reads none", async () => {
  const { id } = await create();
  await admin.send("GET", `/patients/${id}/versions/1`);
  expect((await service.as("user").send("GET", `/patients/${id}/versions/1`)).status).toBe(404);
  const { rows } = await service.db.pool.query(
    "select actor, details from audit_entries where subject = $1 and action = 'patient.version_read'",
    [id],
  );
  expect(rows).toEqual([{ actor: admin.caller.id, details: { version: 1 } }]);
});

test("the content of a version that was emptied is gone", async () => {
  const { id } = await create();
  await admin.send("PATCH", `/patients/${id}`, { name: "Ada King" });
  const log = createLogger("test", "silent");
  const owner = openDatabase({ settings: { url: database.migrationDatabaseUrl }, poolSize: 1, applicationName: "owner", log });
  await owner.pool.query("update patient_versions set record = '{}', salt = null where patient_id = $1 and version = 1", [id]);
  await owner.pool.end();
  const { status, body } = await admin.send("GET", `/patients/${id}/versions/1`);
  expect([status, body.reason]).toEqual([410, "ERASED"]);
});

/** Records without e-mail or address, and with e-mails that others have too, over a real Postgres. */
import { execFile } from "node:child_process";
import { randomUUID } from "node:crypto";
import { join } from "node:path";
import { promisify } from "node:util";
import { fromBinary } from "@bufbuild/protobuf";
import { PatientEventSchema } from "@pm/proto/patient/v1/events";
import { afterAll, expect, test } from "vitest";
import { type Client, patientsOfThisFile, someBody, startPatientApp } from "./testing.ts";

const relaxed = { emailRequired: false, emailUnique: false, addressRequired: false };
const { database, service, admin } = await patientsOfThisFile({ settings: relaxed });
const strict = await startPatientApp(database.databaseUrl);
const strictAdmin = strict.as("admin");
afterAll(() => strict.close());

const nobody = { name: "Newborn Lovelace", dateOfBirth: "2026-01-02" };
const create = async (who: Client, body: object) => (await who.send("POST", "/patients?duplicates=allow", body)).body;
const column = async (id: string, name: string) =>
  (await service.db.pool.query(`select ${name} as value from patients where id = $1`, [id])).rows[0].value;

const forgetEmails = () => service.db.pool.query("update patients set email = null, shared_email = null, email_key = null");

/** Inserts with the statement of the version before, as far as it concerns e-mails. */
async function insertAsBefore(email: string): Promise<string> {
  const { rows } = await service.db.pool.query(
    `insert into patients (id, version, name, email, date_of_birth, address_text, registered_date, registered_by, created_at, updated_at, words)
    values ($1, 1, 'Old', $2, '1987-04-12', 'x', '2026-01-01', 'x', now(), now(), '')
    on conflict (lower(email)) where deleted_at is null do nothing returning id`,
    [randomUUID(), email],
  );
  return rows[0]?.id;
}

async function migrate(env: Record<string, string> = {}): Promise<{ ids: string[]; output: string; failed: boolean }> {
  const command = join(import.meta.dirname, "../src/commands/migrate.ts");
  const all = { PATH: process.env.PATH, MIGRATION_DATABASE_URL: database.migrationDatabaseUrl, ...env };
  const run = promisify(execFile)(process.execPath, [command], { env: all });
  const { stdout, failed } = await run.then(
    ({ stdout }) => ({ stdout, failed: false }),
    ({ stdout }) => ({ stdout, failed: true }),
  );
  const lines = stdout.split("\n").filter(Boolean);
  return { ids: lines.flatMap((line: string) => JSON.parse(line).patientIds ?? []), output: stdout, failed };
}

test("what is absent is an absent field in every answer, event, file and version", async () => {
  const created = await create(admin, nobody);
  const read = (await admin.send("GET", `/patients/${created.id}`)).body;
  const listed = (await admin.send("GET", "/patients?q=newborn")).body.items[0];
  expect(read).toEqual(created);
  expect(listed).toEqual(created);
  for (const field of ["email", "address"]) expect(created).not.toHaveProperty(field);
  const { rows } = await service.db.pool.query("select record from patient_versions where patient_id = $1", [created.id]);
  expect(rows[0].record).toEqual({ ...nobody, registeredDate: created.registeredDate, identifiers: created.identifiers });
  const { payload } = (await service.db.pool.query("select payload from outbox where key = $1", [created.id])).rows[0];
  expect(fromBinary(PatientEventSchema, payload)).toMatchObject({
    event: { value: { demographics: { dateOfBirth: nobody.dateOfBirth, sex: "", city: "", state: "" } } },
  });
  const ndjson = (await admin.send("GET", "/patients:export?format=ndjson")).text.split("\n")[0] ?? "";
  expect(JSON.parse(ndjson)).toEqual(created);
  const csv = (await admin.send("GET", "/patients:export?format=csv")).text.split("\n");
  expect(csv[1]).toMatch(new RegExp(`^${created.id},Newborn Lovelace,,,,,2026-01-02,,,,,,,`));
  await admin.send("DELETE", `/patients/${created.id}`);
  for (const [type, file] of [
    ["application/x-ndjson", `${ndjson}\n`],
    ["text/csv", `${csv[0]}\n${csv[1]}\n`],
  ] as const) {
    const report = await admin.send("POST", "/patients:import", file, { "content-type": type });
    expect(report.body).toMatchObject({ created: 1, errors: [] });
    // The file brings a record number, which only one living patient may have.
    for (const { id } of (await admin.send("GET", "/patients?q=newborn")).body.items) await admin.send("DELETE", `/patients/${id}`);
  }
});

test("null removes an e-mail and an address, and a part can be added to an address that is absent", async () => {
  const { id } = await create(admin, someBody());
  const patch = async (body: object) => (await admin.send("PATCH", `/patients/${id}`, body)).body;
  const removed = await patch({ email: null, address: null });
  for (const field of ["email", "address"]) expect(removed).not.toHaveProperty(field);
  expect((await admin.send("GET", `/patients/${id}`)).body).toEqual(removed);
  expect((await patch({ address: { city: "Zürich" } })).address).toEqual({ text: "Zürich", city: "Zürich" });
  const { items } = (await admin.send("GET", `/patients/${id}/history`)).body;
  expect(items[1].changes).toContainEqual({ field: "email", from: expect.stringContaining("@") });
});

test("with the default settings, an e-mail and an address are required and cannot be removed", async () => {
  const paths = ({ body }: { body: { errors: { path: string }[] } }) => body.errors.map(({ path }) => path);
  for (const body of [nobody, { ...nobody, email: null, address: null }]) {
    const refused = await strictAdmin.send("POST", "/patients?duplicates=allow", body);
    expect([refused.status, paths(refused)]).toEqual([400, ["email", "address"]]);
  }
  for (const wrong of ["", " "]) {
    expect(paths(await strictAdmin.send("POST", "/patients?duplicates=allow", someBody({ email: wrong })))).toEqual(["email"]);
    expect(paths(await admin.send("POST", "/patients?duplicates=allow", someBody({ email: wrong, address: wrong })))).toEqual([
      "email",
      "address",
    ]);
  }
  const { id } = await create(strictAdmin, someBody());
  for (const field of ["email", "address"])
    expect(paths(await strictAdmin.send("PATCH", `/patients/${id}`, { [field]: null }))).toEqual([field]);
});

test("a family shares an e-mail where the clinic permits it, and a key repeats only its own request", async () => {
  const [email, key] = [`family.${randomUUID()}@example.com`, randomUUID()];
  const send = (name: string, headers = {}) => admin.send("POST", "/patients?duplicates=allow", someBody({ name, email }), headers);
  const [first, second] = [await send("One"), await send("Two")];
  expect([first.status, second.status]).toEqual([201, 201]);
  expect(await column(first.body.id, "email_key")).toBeNull();
  const body = someBody({ email });
  const keyed = await admin.send("POST", "/patients?duplicates=allow", body, { "idempotency-key": key });
  const again = await admin.send("POST", "/patients?duplicates=allow", body, { "idempotency-key": key });
  expect([again.status, again.body]).toEqual([201, keyed.body]);
  const lines = [1, 2].map((n) => `${JSON.stringify(someBody({ name: `Child ${n}`, email: email.toUpperCase() }))}\n`).join("");
  for (const query of ["?dryRun=true", ""]) {
    const report = await admin.send("POST", `/patients:import${query}`, lines, { "content-type": "application/x-ndjson" });
    expect(report.body).toMatchObject({ created: 2, failed: 0 });
  }
  await admin.send("DELETE", `/patients/${first.body.id}`);
  expect((await admin.send("POST", `/patients/${first.body.id}:restore`)).status).toBe(200);
});

test("an e-mail is one patient's in all its spellings, in a body, a file and a dry run", async () => {
  const tag = randomUUID();
  const spellings = [
    `zo\u00eb.${tag}@xn--bcher-kva.example`,
    `ZO\u00cb.${tag}@B\u00dcCHER.example`,
    `zoe\u0308.${tag}@b\u00fccher.example`,
  ];
  const created = await create(strictAdmin, someBody({ email: spellings[0] }));
  expect(created.email).toBe(spellings[0]);
  for (const email of spellings) {
    expect((await strictAdmin.send("POST", "/patients?duplicates=allow", someBody({ email }))).status).toBe(409);
    const line = `${JSON.stringify(someBody({ email }))}\n`;
    for (const query of ["?dryRun=true", ""]) {
      const report = await strictAdmin.send("POST", `/patients:import${query}`, line, { "content-type": "application/x-ndjson" });
      expect(report.body).toMatchObject({ created: 0, errors: [{ line: 1, errors: [{ path: "email" }] }] });
    }
  }
  const other = await create(strictAdmin, someBody());
  expect((await strictAdmin.send("PATCH", `/patients/${other.id}`, { email: spellings[1] })).status).toBe(409);
  await strictAdmin.send("DELETE", `/patients/${created.id}`);
  await create(strictAdmin, someBody({ email: spellings[2] }));
  expect((await strictAdmin.send("POST", `/patients/${created.id}:restore`)).status).toBe(409);
});

test("an e-mail that changes to another spelling stays one patient's", async () => {
  const tag = randomUUID();
  const spellings = [`info.${tag}@xn--mnchen-3ya.example`, `info.${tag}@m\u00fcnchen.example`, `INFO.${tag}@M\u00dcNCHEN.example`];
  const { id } = await create(strictAdmin, someBody({ email: spellings[0] }));
  for (const email of spellings.slice(1)) {
    expect((await strictAdmin.send("PATCH", `/patients/${id}`, { email })).body.email).toBe(email);
    expect(await column(id, "email_key")).not.toBeNull();
    for (const email of spellings)
      expect((await strictAdmin.send("POST", "/patients?duplicates=allow", someBody({ email }))).status).toBe(409);
  }
});

test("patients of the version before keep their e-mails to themselves while both versions run", async () => {
  const tag = randomUUID();
  const old = await insertAsBefore(`Old.${tag}@example.com`);
  expect((await strictAdmin.send("POST", "/patients?duplicates=allow", someBody({ email: `old.${tag}@EXAMPLE.com` }))).status).toBe(409);
  await create(strictAdmin, someBody({ email: `new.${tag}@example.com` }));
  expect(await insertAsBefore(`NEW.${tag}@example.com`)).toBeUndefined();
  await migrate();
  expect(await column(old, "email_key")).toBe(`old.${tag}@example.com`);
  // It changes an address and knows nothing of keys.
  await service.db.pool.query("update patients set email = $1 where id = $2", [`Moved.${tag}@example.com`, old]);
  expect(await column(old, "email_key")).toBe(`moved.${tag}@example.com`);
  expect((await strictAdmin.send("POST", "/patients?duplicates=allow", someBody({ email: `old.${tag}@example.com` }))).status).toBe(201);
});

test("patients whom the version before told apart are listed by id, and can still be changed", async () => {
  await forgetEmails();
  const composed = await insertAsBefore("zo\u00eb@example.com");
  const decomposed = await insertAsBefore("zoe\u0308@example.com");
  const { ids, output, failed } = await migrate();
  expect([failed, ids.toSorted()]).toEqual([false, [composed, decomposed].toSorted()]);
  expect(output).not.toMatch(/@|zo/);
  for (const id of [composed, decomposed]) {
    await service.db.pool.query("insert into patient_billing (patient_id) values ($1)", [id]);
    const changed = await strictAdmin.send("PATCH", `/patients/${id}`, { sex: "female" });
    expect([changed.status, changed.body.sex]).toEqual([200, "female"]);
  }
  expect((await strictAdmin.send("POST", "/patients?duplicates=allow", someBody({ email: "ZOE\u0308@example.com" }))).status).toBe(409);
});

test("turning uniqueness on gives keys, or fails with counts and ids where patients share addresses, and goes on when they do not", async () => {
  await forgetEmails();
  const tag = randomUUID();
  const [alone, one, other, gone] = await Promise.all(
    ["alone", "shared", "SHARED", "shared"].map((name) => create(admin, someBody({ email: `${name}.${tag}@example.com` }))),
  );
  await admin.send("DELETE", `/patients/${gone.id}`);
  expect(await migrate({ EMAIL_UNIQUE: "false" })).toMatchObject({ failed: false, ids: [] });
  expect(await column(alone.id, "email_key")).toBeNull();
  const refused = await migrate({ EMAIL_UNIQUE: "true" });
  expect(refused.failed).toBe(true);
  expect(refused.output).toContain("2 patients share 1 e-mail addresses");
  for (const { id } of [one, other]) expect(refused.output).toContain(id);
  for (const { id } of [alone, gone]) expect(refused.output).not.toContain(id);
  expect(refused.output).not.toMatch(/@|shared\./i);
  await admin.send("PATCH", `/patients/${other.id}`, { email: `moved.${tag}@example.com` });
  expect(await migrate()).toMatchObject({ failed: false, ids: [] });
  for (const name of ["alone", "shared", "moved"])
    expect((await strictAdmin.send("POST", "/patients?duplicates=allow", someBody({ email: `${name}.${tag}@example.com` }))).status).toBe(
      409,
    );
  expect((await strictAdmin.send("POST", `/patients/${gone.id}:restore`)).status).toBe(409);
});

/** Creating and reading patients over a real Postgres. */
import { randomUUID } from "node:crypto";
import { fromBinary } from "@bufbuild/protobuf";
import { PatientEventSchema } from "@pm/proto/patient/v1/events";
import { expect, test } from "vitest";
import { patientsOfThisFile, someBody } from "./testing.ts";

const { service, admin } = await patientsOfThisFile();

const count = async (table: string, where: string, value: string): Promise<number> =>
  (await service.db.pool.query(`select count(*)::int as n from ${table} where ${where} = $1`, [value])).rows[0].n;

test("both bodies are accepted and the answer has both", async () => {
  const flat = await admin.send("POST", "/patients", {
    name: "Søren O'Neill",
    email: `S.${randomUUID()}@Example.com`,
    address: "Nørregade 10, København",
    dateOfBirth: "1987-04-12",
    registeredDate: "2024-01-28",
  });
  expect(flat.status).toBe(201);
  expect(flat.headers.get("location")).toBe(`/patients/${flat.body.id}`);
  expect(flat.headers.get("etag")).toBe('"1"');
  expect(flat.body).toMatchObject({
    name: "Søren O'Neill",
    address: { text: "Nørregade 10, København" },
    registeredDate: "2024-01-28",
    version: 1,
    billing: { status: "active", accountId: expect.any(String) },
  });
  const parts = await admin.send("POST", "/patients", {
    firstName: "Ada",
    lastName: "Lovelace",
    dateOfBirth: "1987-04-12",
    address: { street: "1 Main St", city: "Springfield", state: "IL", zipCode: "62701" },
    phoneNumber: "(217) 555-0123",
    email: `ada.${randomUUID()}@example.com`,
  });
  expect(parts.status).toBe(201);
  expect(parts.body).toMatchObject({
    name: "Ada Lovelace",
    firstName: "Ada",
    lastName: "Lovelace",
    phoneNumber: "+12175550123",
    address: { text: "1 Main St, Springfield, IL 62701", street: "1 Main St", city: "Springfield", state: "IL", zipCode: "62701" },
  });
  for (const created of [flat, parts]) {
    const read = await admin.send("GET", `/patients/${created.body.id}`);
    expect(read.status).toBe(200);
    const { possibleDuplicates, ...patient } = created.body;
    expect(possibleDuplicates).toEqual(expect.any(Number));
    expect(read.body).toEqual(patient);
    expect(read.headers.get("etag")).toBe('"1"');
  }
});

test("a create writes the patient, its first version, an audit entry and an event without personal data", async () => {
  const { body } = await admin.send(
    "POST",
    "/patients",
    someBody({ name: "Grace Hopper", sex: "female", address: { city: "Arlington", state: "VA" } }),
  );
  expect(await count("patient_versions", "patient_id", body.id)).toBe(1);
  const { rows: audit } = await service.db.pool.query("select actor, action, details from audit_entries where subject = $1", [body.id]);
  expect(audit).toEqual([
    { actor: admin.caller.id, action: "patient.registered", details: { version: 1, sha256: expect.stringMatching(/^[0-9a-f]{64}$/) } },
  ]);
  const { rows: outbox } = await service.db.pool.query("select topic, type, payload from outbox where key = $1", [body.id]);
  expect(outbox).toMatchObject([{ topic: "patient.v1", type: "patient.v1.registered" }]);
  const event = fromBinary(PatientEventSchema, outbox[0].payload);
  expect(event).toMatchObject({
    patientId: body.id,
    version: 1n,
    event: { case: "registered", value: { demographics: { sex: "female", city: "Arlington", state: "VA" } } },
  });
  expect(outbox[0].payload.toString("latin1")).not.toMatch(/Grace|@example/);
});

test("an e-mail belongs to one patient, whatever its case", async () => {
  const email = `Ada.${randomUUID()}@Example.com`;
  expect((await admin.send("POST", "/patients", someBody({ email }))).status).toBe(201);
  const second = await admin.send("POST", "/patients", someBody({ email: email.toUpperCase() }));
  expect(second.status).toBe(409);
  expect(second.headers.get("content-type")).toBe("application/problem+json");
  expect(second.body).toMatchObject({ code: "already_exists", errors: [{ path: "email" }] });
  expect(await count("patients", "lower(email)", email.toLowerCase())).toBe(1);
});

test("a repeated idempotency key gives the first answer again, and another body 422", async () => {
  const [key, body] = [randomUUID(), someBody()];
  const send = (what: unknown) => admin.send("POST", "/patients", what, { "idempotency-key": key });
  const first = await send(body);
  expect(first.status).toBe(201);
  const again = await send(body);
  expect([again.status, again.body, again.headers.get("idempotency-replayed")]).toEqual([201, first.body, "true"]);
  const other = await send(someBody());
  expect([other.status, other.body.code]).toEqual([422, "idempotency_key_reused"]);
  // The key is this caller's own.
  const stranger = await service.as("user").send("POST", "/patients", someBody(), { "idempotency-key": key });
  expect(stranger.status).toBe(201);
});

test("a key whose request was refused for its e-mail refuses the same request again", async () => {
  const [key, email] = [randomUUID(), `taken.${randomUUID()}@example.com`];
  await admin.send("POST", "/patients", someBody({ email }));
  const body = someBody({ email });
  for (let round = 0; round < 2; round++)
    expect((await admin.send("POST", "/patients", body, { "idempotency-key": key })).status).toBe(409);
});

test("a wrong body names every wrong field and stores nothing", async () => {
  const before = (await service.db.pool.query("select count(*)::int as n from patients")).rows[0].n;
  const { status, body } = await admin.send("POST", "/patients", {
    name: " ",
    email: "nobody",
    dateOfBirth: "2999-01-01",
    phoneNumber: "12",
    registeredDate: "1879-12-31",
    adress: "x",
  });
  expect(status).toBe(400);
  expect(body.errors.map((error: { path: string }) => error.path).sort()).toEqual(
    ["address", "adress", "dateOfBirth", "email", "name", "phoneNumber", "registeredDate"].sort(),
  );
  for (const [text, type] of [
    ["{", 400],
    ["[]", 400],
    ['"x"', 400],
    ["null", 400],
  ] as const)
    expect((await admin.send("POST", "/patients", text)).status).toBe(type);
  expect((await admin.send("POST", "/patients", "x=1", { "content-type": "text/plain" })).status).toBe(415);
  expect((await admin.send("POST", "/patients", someBody({ name: "x".repeat(1_100_000) }))).status).toBe(413);
  expect((await service.db.pool.query("select count(*)::int as n from patients")).rows[0].n).toBe(before);
});

test("a name in two forms of Unicode is one name, also in a search", async () => {
  const surname = `Jose\u0301-${randomUUID().slice(0, 8)}`;
  const { body } = await admin.send("POST", "/patients", someBody({ name: `Ana ${surname}` }));
  expect(body.name).toBe(`Ana ${surname.normalize("NFC")}`);
  for (const form of ["NFC", "NFD"]) {
    const found = await admin.send("GET", `/patients?q=${encodeURIComponent(surname.normalize(form))}`);
    expect(found.body.items.map(({ id }: { id: string }) => id)).toEqual([body.id]);
  }
});

test("text that hides or turns around is refused in a body, a line of a file and a query, and a joiner within a word is not", async () => {
  for (const wrong of ["\u200b\u2060", "Ada \u202elevoL"]) {
    const refused = await admin.send("POST", "/patients", someBody({ name: wrong }));
    expect([refused.status, refused.body.errors.map(({ path }: { path: string }) => path)]).toEqual([400, ["name"]]);
    const file = `${JSON.stringify(someBody({ address: wrong }))}\n`;
    const report = await admin.send("POST", "/patients:import", file, { "content-type": "application/x-ndjson" });
    expect(report.body).toMatchObject({ created: 0, errors: [{ line: 1, errors: [{ path: "address" }] }] });
    for (const field of ["q", "city", "state"]) {
      const query = await admin.send("GET", `/patients?${field}=${encodeURIComponent(wrong)}`);
      expect([query.status, query.body.errors.map(({ path }: { path: string }) => path)]).toEqual([400, [field]]);
    }
  }
  for (const name of ["علی‌رضا محمدی", "क्‍षमा", "Zoë 👩‍⚕️"])
    expect((await admin.send("POST", "/patients", someBody({ name }))).body.name).toBe(name);
});

test("text that is not UTF-8 is refused by the name of its field, and nothing is stored", async () => {
  const rows = async () => (await service.db.pool.query("select count(*)::int as n from patients")).rows[0].n;
  const before = await rows();
  // Each character of the text goes as one byte.
  const send = async (body: string, headers: Record<string, string> = {}) => {
    const answer = await service.app.request("/patients", {
      method: "POST",
      headers: { authorization: `Bearer ${admin.caller.token}`, "content-type": "application/json", ...headers },
      body: Buffer.from(body, "latin1"),
    });
    return { status: answer.status, body: (await answer.json()) as { detail: string; errors: { path: string }[] } };
  };
  const latin1 = await send(JSON.stringify(someBody({ name: "Zo\xeb" })));
  expect(latin1).toMatchObject({ status: 400, body: { detail: expect.stringContaining("is not UTF-8"), errors: [{ path: "name" }] } });
  const half = await send(JSON.stringify(someBody({ address: { city: "\ud800" } })));
  expect(half).toMatchObject({ status: 400, body: { errors: [{ path: "address.city" }] } });
  expect(await send(JSON.stringify(someBody()), { "content-encoding": "gzip" })).toMatchObject({ status: 415 });
  const key = await send(JSON.stringify(someBody()), { "idempotency-key": "\xff" });
  expect(key).toMatchObject({ status: 400, body: { errors: [{ path: "idempotency-key" }] } });
  expect(await rows()).toBe(before);
  for (const [path, name] of [
    ["/patients?q=Zo%EB", "q"],
    ["/patients/%FF", "id"],
    ["/patients/%FF/history", "id"],
  ] as const)
    expect((await admin.send("GET", path)).body).toMatchObject({ status: 400, errors: [{ path: name }] });
});

test("a patient of somebody else answers like a missing one, byte for byte", async () => {
  const [owner, other] = [service.as("user"), service.as("user")];
  const { body } = await owner.send("POST", "/patients", someBody());
  expect((await owner.send("GET", `/patients/${body.id}`)).status).toBe(200);
  const headers = { "x-request-id": "0123456789" };
  const hidden = await other.send("GET", `/patients/${body.id}`, undefined, headers);
  const missing = await other.send("GET", `/patients/${randomUUID()}`, undefined, headers);
  const malformed = await other.send("GET", "/patients/nonsense", undefined, headers);
  expect(hidden.status).toBe(404);
  expect(hidden.text).toBe(missing.text);
  expect(malformed.text).toBe(missing.text);
});

test("every read of a record is in the audit trail", async () => {
  const { body } = await admin.send("POST", "/patients", someBody());
  const reader = service.as("admin");
  await Promise.all(Array.from({ length: 5 }, () => reader.send("GET", `/patients/${body.id}`)));
  const { rows } = await service.db.pool.query(
    "select count(*)::int as n from audit_entries where subject = $1 and actor = $2 and action = 'patient.read'",
    [body.id, reader.caller.id],
  );
  expect(rows[0].n).toBe(5);
});

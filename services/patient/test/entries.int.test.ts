/** Several names, phones, e-mails, addresses and contacts of a patient, over a real Postgres. */
import { randomUUID } from "node:crypto";
import { fromBinary } from "@bufbuild/protobuf";
import { PatientEventSchema } from "@pm/proto/patient/v1/events";
import { expect, test } from "vitest";
import { patientsOfThisFile } from "./testing.ts";

const { service, admin } = await patientsOfThisFile();

/** A patient with several entries of everything, with a family name of their own. */
function somebody() {
  const family = `Byron${randomUUID().replace(/[^a-f]/g, "")}`;
  const value = (name: string) => `${name}.${randomUUID()}@example.com`;
  return {
    names: [
      { use: "official", prefix: "Dr.", given: "Ada", family: "Lovelace" },
      { use: "maiden", text: `Ada ${family}` },
    ],
    phones: [
      { use: "mobile", value: "+12175550123" },
      { value: "+442071234567", period: { end: "2020" } },
    ],
    emails: [{ value: value("first") }, { use: "work", value: value("second") }],
    addresses: [
      { street: "Bahnhofstr. 1", city: "Zürich", zipCode: "8001", country: "CH" },
      { use: "old", text: "1 Main St" },
    ],
    contacts: [{ name: "Lord Byron", relationship: "father", phone: "+12175550199" }],
    dateOfBirth: "1987-04-12",
  };
}
const send = async (method: string, path: string, body?: unknown, status = 200) => {
  const answer = await admin.send(method, path, body);
  expect({ status: answer.status, body: answer.body }).toMatchObject({ status });
  return answer.body;
};

test("what was sent is in every answer, in lists and flat, and an old client's change keeps it", async () => {
  const body = somebody();
  const created = await send("POST", "/patients?duplicates=allow", body, 201);
  expect(created).toMatchObject({
    ...{ name: "Ada Lovelace", firstName: "Ada", lastName: "Lovelace", phoneNumber: "+12175550123", email: body.emails[0]?.value },
    address: { text: "Bahnhofstr. 1, Zürich, 8001", city: "Zürich" },
    ...body,
  });
  const path = `/patients/${created.id}`;
  expect(await send("GET", path)).toEqual(created);
  expect((await send("GET", `/patients?q=${body.names[1]?.text?.split(" ")[1]}`)).items).toEqual([created]);
  expect((await send("GET", "/patients?q=2071234567")).items.map(({ id }: { id: string }) => id)).toContain(created.id);
  expect((await send("GET", `/patients?q=${body.emails[1]?.value}`)).items).toHaveLength(1);
  const old = { firstName: "Ada", lastName: "King", email: created.email, phoneNumber: "+12175550100", dateOfBirth: body.dateOfBirth };
  const changed = await send("PUT", path, { ...old, address: { street: "Bahnhofstr. 1", city: "Zürich", zipCode: "8001" } });
  expect(changed.names).toEqual([{ ...created.names[0], text: "Ada King", family: "King" }, created.names[1]]);
  expect(changed.phones).toEqual([{ ...created.phones[0], value: "+12175550100" }, created.phones[1]]);
  for (const list of ["emails", "addresses", "contacts", "identifiers"]) expect(changed[list]).toEqual(created[list]);
  expect(await send("GET", path)).toEqual(changed);
  const { items } = await send("GET", `${path}/history`);
  const fields = items[0].changes.map(({ field }: { field: string }) => field);
  expect(fields.sort()).toEqual(["lastName", "name", "phoneNumber"]);
  await send("PATCH", path, { contacts: null, phones: [...changed.phones].reverse() });
  const after = await send("GET", path);
  expect([after.contacts, after.phoneNumber]).toEqual([undefined, "+442071234567"]);
  const changes = (await send("GET", `${path}/history`)).items[0].changes;
  expect(changes).toContainEqual({ field: "phones.order", from: "1 2", to: "2 1" });
  expect(changes).toContainEqual({ field: "contacts.1.name", from: "Lord Byron" });
});

test("marital status, languages, practitioner and site are kept, also by an older client, and are not looked at by others", async () => {
  const more = {
    maritalStatus: "never-married",
    languages: [{ language: "pt-BR", preferred: true }, { language: "de" }],
    generalPractitioner: "Dr. Müller",
    managingSite: "Lakeside, North",
    fhirElements: '[["multipleBirthBoolean",null,true]]',
    deceased: "2020-01-01",
  };
  const created = await send(
    "POST",
    "/patients",
    { ...somebody(), ...more, languages: [{ language: "PT-br", preferred: true }, { language: "de" }] },
    201,
  );
  expect(created).toMatchObject(more);
  const path = `/patients/${created.id}`;
  const old = { name: "Ada King", email: created.email, dateOfBirth: created.dateOfBirth, address: "1 Main St" };
  expect(await send("PUT", path, old)).toMatchObject(more);
  const nothing = {
    maritalStatus: null,
    languages: null,
    generalPractitioner: null,
    managingSite: null,
    fhirElements: null,
    deceased: null,
  };
  const removed = await send("PATCH", path, nothing);
  for (const field of Object.keys(nothing)) expect(removed).not.toHaveProperty(field);
  const changes = (await send("GET", `${path}/history`)).items[0].changes;
  expect(changes).toContainEqual({ field: "languages.1.preferred", from: "true" });
  const wrong = {
    maritalStatus: "it is complicated",
    languages: [{ language: "german" }, { language: "x" }],
    generalPractitioner: "",
    managingSite: 1,
  };
  const { errors } = await send("PATCH", path, wrong, 400);
  const paths = errors.map((error: { path: string }) => error.path);
  expect(paths).toEqual(["maritalStatus", "languages[0].language", "languages[1].language", "generalPractitioner", "managingSite"]);
  const both = [
    { language: "de", preferred: true },
    { language: "fr", preferred: true },
  ];
  expect((await send("PATCH", path, { languages: both }, 400)).errors[0].path).toBe("languages");
});

test("no event has what the lists say", async () => {
  const body = somebody();
  const { id } = await send("POST", "/patients?duplicates=allow", body, 201);
  await send("PATCH", `/patients/${id}`, {
    contacts: [],
    phones: [{ value: "+12175550177" }],
    addresses: [{ city: "Bern", country: "CH" }],
  });
  const { rows } = await service.db.pool.query("select payload from outbox where key = $1 order by id", [id]);
  expect(rows).toHaveLength(2);
  for (const { payload } of rows) expect(payload.toString("utf8")).not.toMatch(/Byron|@|5550|Bahnhof|Lovelace/);
  expect(fromBinary(PatientEventSchema, rows[1].payload)).toMatchObject({ event: { value: { demographics: { city: "Bern" } } } });
});

test("an export as NDJSON is whole, and an import of it gives the same", async () => {
  const created = await send("POST", "/patients?duplicates=allow", somebody(), 201);
  const line = (await admin.send("GET", `/patients:export?identifier=mrn|${created.identifiers[0].value}`)).text;
  expect(JSON.parse(line)).toEqual(created);
  await admin.send("DELETE", `/patients/${created.id}`);
  const report = await admin.send("POST", "/patients:import", line, { "content-type": "application/x-ndjson" });
  expect(report.body).toMatchObject({ created: 1, failed: 0 });
  const again = (await admin.send("GET", `/patients:export?identifier=mrn|${created.identifiers[0].value}`)).text;
  const strip = (text: string) => {
    const { id: _id, version: _version, createdAt: _created, updatedAt: _updated, billing: _billing, ...record } = JSON.parse(text);
    return JSON.stringify(record);
  };
  expect(strip(again)).toBe(strip(line));
});

test("twenty entries are accepted, and wrong ones are named by their place", async () => {
  const phones = Array.from({ length: 20 }, (_, index) => ({ value: `+12175550${100 + index}` }));
  expect((await send("POST", "/patients?duplicates=allow", { ...somebody(), phones }, 201)).phones).toHaveLength(20);
  const wrong = {
    ...somebody(),
    names: [{ use: "stage", given: "Ada" }, { prefix: "Dr." }],
    phones: [...phones, { value: "+12175550199" }],
    addresses: [{ country: "UK", city: "London" }, { country: "GB" }],
    contacts: [{ relationship: "father" }],
  };
  const { errors } = await send("POST", "/patients?duplicates=allow", wrong, 400);
  expect(errors.map(({ path }: { path: string }) => path)).toEqual([
    "names[0].use",
    "names[1]",
    "phones",
    "addresses[0].country",
    "addresses[1]",
    "contacts[0].name",
  ]);
});

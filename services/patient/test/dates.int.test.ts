/** Dates of birth of any precision, and deaths, over a real Postgres. */
import { fromBinary } from "@bufbuild/protobuf";
import { PatientEventSchema } from "@pm/proto/patient/v1/events";
import { expect, test } from "vitest";
import { patientsOfThisFile, someBody } from "./testing.ts";

const { service, admin } = await patientsOfThisFile({ settings: { dateOfBirthPrecision: "year" } });

const create = async (fields: object) => (await admin.send("POST", "/patients?duplicates=allow", someBody({ ...fields }))).body;
const read = async (id: string) => (await admin.send("GET", `/patients/${id}`)).body;

test("a date of birth is as it was written in every answer, file and version", async () => {
  for (const dateOfBirth of ["1976", "1976-05", "1976-05-12"]) {
    const created = await create({ dateOfBirth, dateOfBirthEstimated: true, deceased: "2026-01-31" });
    expect(created).toMatchObject({ dateOfBirth, dateOfBirthEstimated: true, deceased: "2026-01-31" });
    expect(await read(created.id)).toEqual(created);
    const { rows } = await service.db.pool.query("select record from patient_versions where patient_id = $1", [created.id]);
    expect(rows[0].record).toMatchObject({ dateOfBirth, dateOfBirthEstimated: true, deceased: "2026-01-31" });
    const patched = (await admin.send("PATCH", `/patients/${created.id}`, { sex: "other", deceased: true })).body;
    expect(patched).toMatchObject({ dateOfBirth, deceased: true });
    expect(await read(created.id)).toEqual(patched);
    const { items } = (await admin.send("GET", `/patients/${created.id}/history`)).body;
    expect(items[0].changes).toContainEqual({ field: "deceased", from: "2026-01-31", to: "true" });
  }
  const plain = await create({});
  for (const field of ["dateOfBirthEstimated", "deceased"]) expect(await read(plain.id)).not.toHaveProperty(field);
});

test("lists are ordered and filtered by the first possible day", async () => {
  const birthDates = ["1950-02-01", "1950", "1949-12-31", "1950-02", "1950-01-02"];
  for (const dateOfBirth of birthDates) await create({ name: "Sorted", dateOfBirth });
  const { items } = (await admin.send("GET", "/patients?q=sorted&sort=dateOfBirth")).body;
  expect(items.map((item: { dateOfBirth: string }) => item.dateOfBirth)).toEqual([
    "1949-12-31",
    "1950",
    "1950-01-02",
    ...["1950-02-01", "1950-02"],
  ]);
  const found = (await admin.send("GET", "/patients?q=sorted&dateOfBirth=1950-01-01")).body.items;
  expect(found.map((item: { dateOfBirth: string }) => item.dateOfBirth)).toEqual(["1950"]);
});

test("an event has a partial date in a field of its own, so that readers of the version before see none", async () => {
  for (const [dateOfBirth, demographics] of [
    ["1976-05-12", { dateOfBirth: "1976-05-12", partialDateOfBirth: "" }],
    ["1976-05", { dateOfBirth: "", partialDateOfBirth: "1976-05" }],
    ["1976", { dateOfBirth: "", partialDateOfBirth: "1976" }],
  ] as const) {
    const { id } = await create({ dateOfBirth });
    const { rows } = await service.db.pool.query("select payload from outbox where key = $1", [id]);
    expect(fromBinary(PatientEventSchema, rows[0].payload)).toMatchObject({ event: { value: { demographics } } });
  }
});

test("a date that the version before changes is a day again", async () => {
  const { id } = await create({ dateOfBirth: "1976", dateOfBirthEstimated: true });
  await service.db.pool.query("update patients set date_of_birth = '1977-03-04' where id = $1", [id]);
  expect(await read(id)).toMatchObject({ dateOfBirth: "1977-03-04", dateOfBirthEstimated: true });
});

test("a file keeps dates, flags and deaths, also as a spreadsheet writes them", async () => {
  const name = "Filed Away";
  for (const fields of [{ dateOfBirth: "1950" }, { dateOfBirthEstimated: false, deceased: true }, { deceased: "2026-01-31" }])
    await create({ name, ...fields });
  const header = "name,email,address,dateOfBirth,dateOfBirthEstimated,deceased\n";
  const wrong = "Filed Away,x@example.com,x,1950-13,perhaps,perhaps\n";
  const report = await admin.send("POST", "/patients:import", `${header}Filed Away,y@example.com,x,1950-12,TRUE,False\n${wrong}`, {
    "content-type": "text/csv",
  });
  expect(report.body).toMatchObject({ created: 1, errors: [{ line: 3 }] });
  expect(report.body.errors[0].errors.map(({ path }: { path: string }) => path)).toEqual([
    "dateOfBirth",
    "dateOfBirthEstimated",
    "deceased",
  ]);
  const csv = (await admin.send("GET", "/patients:export?format=csv&q=filed")).text;
  const before = (await admin.send("GET", "/patients?q=filed")).body.items;
  for (const { id } of before) await admin.send("DELETE", `/patients/${id}`);
  expect((await admin.send("POST", "/patients:import", csv, { "content-type": "text/csv" })).body).toMatchObject({ created: 4, failed: 0 });
  const after = (await admin.send("GET", "/patients?q=filed")).body.items;
  type Item = Record<string, unknown>;
  // CSV has no lists.
  const record = ({ id, version, createdAt, updatedAt, billing, identifiers, ...fields }: Item): Item => fields;
  const byEmail = (items: Item[]) => items.map(record).sort((a, b) => (String(a.email) < String(b.email) ? -1 : 1));
  expect(byEmail(after)).toEqual(byEmail(before));
});

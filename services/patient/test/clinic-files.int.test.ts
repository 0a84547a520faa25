/** Files as other systems and spreadsheets write them, over a real Postgres. */
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { gunzipSync } from "node:zlib";
import { expect, test } from "vitest";
import { columnOf, readHeader } from "../src/files/columns.ts";
import { type Client, patientsOfThisFile } from "./testing.ts";

const { admin: strict } = await patientsOfThisFile();
const settings = { emailRequired: false, addressRequired: false, dateOfBirthPrecision: "year" } as const;
const { admin } = await patientsOfThisFile({ settings });

const sample = (name: string) => readFileSync(join(import.meta.dirname, "files", name));
const send = async (client: Client, file: string, query = "") =>
  (await client.send("POST", `/patients:import${query}`, file, { "content-type": "text/csv" })).body;
const found = async (query: string) => (await admin.send("GET", `/patients?${query}`)).body.items[0];

test.each([
  ["space-after-comma.csv", 1, ""],
  ["excel-semicolon-bom.csv", 1, "?dateFormat=DD.MM.YYYY"],
  ["excel-empty-columns.csv", 1, ""],
  ["ambiguous-dates.csv", 2, "?dateFormat=DD/MM/YYYY"],
  ["sex-letters-and-spaces.csv", 2, ""],
])("%s creates %d with %j", async (name, created, query) => {
  expect(await send(strict, sample(name).toString(), query)).toMatchObject({ lines: created, created, failed: 0 });
});

test.each([
  ["excel-semicolon-bom.csv", [[2, "dateFormat=DD.MM.YYYY"]]],
  [
    "ambiguous-dates.csv",
    [
      [2, "dateFormat=DD/MM/YYYY or dateFormat=MM/DD/YYYY"],
      [3, "dateFormat=DD/MM/YYYY"],
    ],
  ],
])("without a dateFormat, %s fails and says so", async (name, errors) => {
  const body = await send(strict, sample(name).toString());
  expect(body).toMatchObject({ created: 0, failed: errors.length });
  expect(body.errors).toMatchObject(
    errors.map(([line, way]) => ({ line, errors: [{ path: "dateOfBirth", message: expect.stringContaining(String(way)) }] })),
  );
});

test("an error names the column as the file writes it, and the field", async () => {
  const file = `Full Name,E-mail address,DOB,Zip,Gender,address\n,x,1.2.3,${"9".repeat(21)},boy,1 Way\nAda,ada@x.example,1990-01-01,1,boy,1 Way\n`;
  const { importId, errors } = await send(strict, file);
  const columns = errors.map(({ line, errors }: { line: number; errors: { path: string; column: string }[] }) => [
    line,
    Object.fromEntries(errors.map(({ path, column }) => [path, column])),
  ]);
  expect(columns).toEqual([
    [2, { name: "Full Name", email: "E-mail address", dateOfBirth: "DOB", "address.zipCode": "Zip", sex: "Gender" }],
    [3, { sex: "Gender" }],
  ]);
  expect((await strict.send("GET", `/patients/imports/${importId}/errors`)).text).toContain('\n3,Gender,"must be one of');
  const header = readHeader(["Name", "Stadt", "contacts", "addresses"], { map: new Map([["Stadt", "address.city"]]) });
  const meant = ["contacts[0].name", "addresses[0].city", "address.city", "name"].map((path) => columnOf(header, path));
  expect(meant).toEqual(["contacts", "addresses", "Stadt", "Name"]);
});

test("a record number, names and an address of other systems are stored as such", async () => {
  expect(await send(admin, sample("other-systems-headers.csv").toString())).toMatchObject({ created: 1, failed: 0 });
  expect(await found("identifier=mrn|A-1001")).toMatchObject({
    ...{ firstName: "Nora", lastName: "Vik", dateOfBirth: "1980-01-31", sex: "female", phoneNumber: "+447700900123" },
    address: { street: "1 Way", city: "Oslo", zipCode: "0150" },
    phones: [{ use: "mobile" }],
    identifiers: [{ id: "1", system: "mrn", value: "A-1001" }],
  });
});

test("a newborn and somebody with a year of birth need no e-mail and no address where the clinic says so", async () => {
  expect(await send(admin, sample("no-email-no-address.csv").toString())).toMatchObject({ created: 2, failed: 0 });
  expect(await found("identifier=mrn|A-1003")).toMatchObject({ name: "Unknown Person", dateOfBirth: "1950" });
});

test("a file of Synthea gives names, maiden names and identifiers, and names the columns that are left out", async () => {
  const body = await send(admin, sample("synthea-headers.csv").toString());
  expect(body).toMatchObject({ created: 1, failed: 0 });
  expect(body.ignoredColumns).toEqual(expect.arrayContaining(["RACE", "ETHNICITY", "LAT", "HEALTHCARE_EXPENSES"]));
  expect(await found("identifier=synthea|11111111-2222-4333-8444-555555555555")).toMatchObject({
    names: [
      { prefix: "Mrs.", given: "Test101", family: "Person202" },
      { use: "maiden", family: "Maiden303" },
    ],
    address: { street: "101 Test Way", city: "Testtown" },
    sex: "female",
  });
});

test("the table of patients of OpenEMR is read, and the report names the columns that are left out", async () => {
  const body = await send(admin, sample("openemr-patient-data.csv").toString());
  expect(body).toMatchObject({ created: 1, failed: 0 });
  expect(body.ignoredColumns).toEqual(
    expect.arrayContaining(["id", "phone_contact", "occupation", "pharmacy_id", "monthly_income", "birth_fname"]),
  );
  expect(await found("identifier=mrn|OE-10")).toMatchObject({
    names: [{ prefix: "Ms.", given: "Nora B.", family: "Vik" }],
    ...{ dateOfBirth: "1980-01-31", sex: "female", maritalStatus: "domestic-partner", email: "nora.vik@openemr.example" },
    addresses: [{ street: "1 Way", city: "San Luis", state: "CA", zipCode: "92101", country: "US" }],
    phones: [{ use: "home", value: "+16195552222" }, { use: "work" }, { use: "mobile" }],
    identifiers: [{ system: "driving-licence" }, { system: "us-ssn" }, { value: "OE-10" }, { system: "openemr-pid", value: "5" }],
  });
});

test("persons of OpenMRS and registrations of Bahmni are read", async () => {
  expect(await send(admin, sample("openmrs-person.csv").toString())).toMatchObject({
    ...{ created: 1, failed: 0, ignoredColumns: ["cause_of_death", "county_district"] },
  });
  expect(await found("identifier=mrn|100-8")).toMatchObject({
    names: [{ prefix: "Sra.", given: "Ana María", family: "García Pérez" }],
    ...{ dateOfBirth: "1976-01-01", dateOfBirthEstimated: true, sex: "female" },
    addresses: [{ street: "1 Calle Mayor, 2.º", city: "Quito", state: "Pichincha", zipCode: "170101", country: "EC" }],
  });
  expect(await send(admin, sample("openmrs-bahmni.csv").toString())).toMatchObject({
    ...{ created: 1, failed: 0, ignoredColumns: ["Address.Tehsil", "Address.District"] },
  });
  expect(await found("identifier=mrn|GAN-200001")).toMatchObject({
    ...{ firstName: "Asha Devi", lastName: "Vik", registeredDate: "2024-05-12", address: { city: "Ganiyari", state: "Chhattisgarh" } },
  });
});

test("each tracked entity of DHIS2 is a patient, and its kind is no identifier", async () => {
  expect(await send(admin, sample("dhis2-tracked-entities.csv").toString())).toMatchObject({
    ...{ created: 2, failed: 0, ignoredColumns: ["Created", "Org unit", "Org unit name", "Tracked entity", "Inactive"] },
  });
  expect(await found("identifier=dhis2-tracked-entity|fSofnQR6lAU")).toMatchObject({
    ...{ name: "Gertrude Ryder", sex: "female", dateOfBirth: "1983-03-25", address: { text: "56 Upper Road" } },
  });
});

test("every patient of a Synthea run goes in and comes out, with all that a record has a field for", async () => {
  const { admin } = await patientsOfThisFile({ settings });
  const file = gunzipSync(sample("synthea-patients.csv.gz")).toString();
  const [header = [], ...rows] = file
    .trim()
    .split(/\r?\n/)
    .map((line) => line.split(","));
  expect(await send(admin, file)).toMatchObject({ lines: rows.length, created: rows.length, failed: 0 });
  const out = new Map<string, ReturnType<typeof JSON.parse>>();
  for (const line of (await admin.send("GET", "/patients:export")).text.trim().split("\n")) {
    const patient = JSON.parse(line);
    out.set(patient.identifiers.find(({ system }: { system: string }) => system === "synthea").value, patient);
  }
  expect(out.size).toBe(rows.length);
  for (const row of rows) {
    const cell = (name: string) => row[header.indexOf(name)] || undefined;
    const patient = out.get(cell("Id") ?? "");
    const values = Object.fromEntries(patient.identifiers.map(({ system, value }: { system: string; value: string }) => [system, value]));
    expect({
      BIRTHDATE: patient.dateOfBirth,
      DEATHDATE: patient.deceased,
      SSN: values["us-ssn"],
      DRIVERS: values["driving-licence"],
      PASSPORT: values.passport,
      PREFIX: patient.names[0].prefix,
      FIRST: patient.firstName,
      LAST: patient.lastName,
      SUFFIX: patient.names[0].suffix,
      MAIDEN: patient.names.find(({ use }: { use: string }) => use === "maiden")?.family,
      MARITAL: patient.maritalStatus?.replace("never-married", "s")[0].toUpperCase(),
      GENDER: patient.sex === "female" ? "F" : "M",
      ADDRESS: patient.address.street,
      CITY: patient.address.city,
      STATE: patient.address.state,
      ZIP: patient.address.zipCode,
    }).toEqual({
      ...Object.fromEntries(
        ["BIRTHDATE", "DEATHDATE", "SSN", "DRIVERS", "PASSPORT", "PREFIX", "LAST", "SUFFIX", "MAIDEN", "MARITAL", "GENDER"].map((name) => [
          name,
          cell(name),
        ]),
      ),
      ...Object.fromEntries(["ADDRESS", "CITY", "STATE", "ZIP"].map((name) => [name, cell(name)])),
      FIRST: [cell("FIRST"), cell("MIDDLE")].filter(Boolean).join(" "),
    });
    expect(values.mrn).toMatch(/^P\d+$/);
  }
  const heir = await patientsOfThisFile({ settings });
  const exported = (await admin.send("GET", "/patients:export?format=csv")).text;
  expect(await send(heir.admin, exported)).toMatchObject({ created: rows.length, failed: 0 });
});

/** Which audit entry each operation of FHIR leaves, in the trail of the service behind it. */
import { randomUUID } from "node:crypto";
import type { operations } from "@pm/kit/auth/access";
import type { AuditRow } from "./audit-table-billing.ts";
import { auditTableOfReadable } from "./audit-table-fhir-readable.ts";
import { person } from "./client.ts";
import { done, get, ids, newUser, post } from "./scene.ts";

const root = "/fhir/R4/Patient";
const resource = () => ({
  resourceType: "Patient",
  name: [{ family: "King", given: ["Ada"] }],
  telecom: [{ system: "email", value: `${randomUUID()}@example.com` }],
  birthDate: "1985-12-10",
  address: [{ line: ["1 Main St"], city: "Springfield" }],
});
const put = (id: string, body: object) => ({ method: "PUT", path: `${root}/${id}`, body: { ...body, id } });

type Fhir = Extract<keyof typeof operations, `fhir.${string}`>;

const noPerson = "describes the server and nobody";

const respondAsync = { prefer: "respond-async" };
const kickOff = (path: string) => async () => ({ ...get(`/fhir/R4/${path}`), headers: respondAsync, token: (await newUser()).token });
/** A call about an export of a new user. */
const ofExport =
  (method: string, file = "") =>
  async () => {
    const { token } = await newUser();
    const { exportId } = await done({ ...post("/patients/exports", {}), token });
    return { method, path: `/fhir/R4/exports/${exportId}${file}`, token };
  };

export const auditTableOfFhir: Record<Fhir, AuditRow> = {
  "fhir.readMetadata": { none: noPerson },
  "fhir.processBundle": {
    leaves: "patient.read",
    in: "patient",
    by: () =>
      post("/fhir/R4", { resourceType: "Bundle", type: "batch", entry: [{ request: { method: "GET", url: `Patient/${ids.patient}` } }] }),
  },
  "fhir.exportSystem": { leaves: "export.created", in: "patient", by: kickOff("$export") },
  "fhir.exportPatients": { leaves: "export.created", in: "patient", by: kickOff("Patient/$export") },
  "fhir.exportGroup": {
    leaves: "export.created",
    in: "patient",
    // A new user is in no team; an administrator may export any.
    by: () => ({ ...get(`/fhir/R4/Group/${ids.team}/$export`), headers: respondAsync }),
  },
  "fhir.readExport": { none: "says what an export of the caller is made of, and nothing about a person" },
  "fhir.readExportFile": { leaves: "patient.exported", in: "patient", by: ofExport("GET", "/Patient") },
  "fhir.cancelExport": { leaves: "export.deleted", in: "patient", by: ofExport("DELETE") },
  "fhir.readSmartConfiguration": { none: noPerson },
  "fhir.readPatient": { leaves: "patient.read", in: "patient", by: () => get(`${root}/${ids.patient}`) },
  "fhir.searchPatients": { leaves: "patient.listed", in: "patient", by: () => get(`${root}?family=King`) },
  "fhir.searchPatientsByForm": {
    leaves: "patient.listed",
    in: "patient",
    by: () => ({ ...post(`${root}/_search`, "family=King"), headers: { "content-type": "application/x-www-form-urlencoded" } }),
  },
  "fhir.createPatient": { leaves: "patient.registered", in: "patient", by: () => post(root, resource()) },
  "fhir.updatePatient": { leaves: "patient.updated", in: "patient", by: () => put(ids.patient, resource()) },
  "fhir.updatePatientWhere": {
    leaves: "patient.registered",
    in: "patient",
    by: () => {
      const identifier = { system: "urn:oid:1.2.3", value: randomUUID() };
      const path = `${root}?identifier=${identifier.system}|${identifier.value}`;
      return { method: "PUT", path, body: { ...resource(), identifier: [identifier] } };
    },
  },
  "fhir.patchPatient": {
    leaves: "patient.updated",
    in: "patient",
    by: () => ({
      method: "PATCH",
      path: `${root}/${ids.patient}`,
      headers: { "content-type": "application/json-patch+json" },
      body: [{ op: "add", path: "/multipleBirthInteger", value: Math.ceil(Math.random() * 1e6) }],
    }),
  },
  "fhir.deletePatient": {
    leaves: "patient.deleted",
    in: "patient",
    by: async () => ({ method: "DELETE", path: `${root}/${(await done(post("/patients", person()))).id}` }),
  },
  "fhir.deletePatientWhere": {
    leaves: "patient.deleted",
    in: "patient",
    by: async () => {
      const identifier = { system: "urn:oid:1.2.3", value: randomUUID() };
      await done(post("/patients", { ...person(), identifiers: [identifier] }));
      return { method: "DELETE", path: `${root}?identifier=${identifier.system}|${identifier.value}` };
    },
  },
  "fhir.readPatientVersion": { leaves: "patient.version_read", in: "patient", by: () => get(`${root}/${ids.patient}/_history/1`) },
  "fhir.readPatientHistory": { leaves: "patient.history_read", in: "patient", by: () => get(`${root}/${ids.patient}/_history`) },
  "fhir.readHistoryOfPatients": { leaves: "patient.changes_read", in: "patient", by: () => get(`${root}/_history`) },
  "fhir.matchPatient": {
    leaves: "patient.matched",
    in: "patient",
    by: () => post(`${root}/$match`, { resourceType: "Parameters", parameter: [{ name: "resource", resource: resource() }] }),
  },
  "fhir.readEverything": { leaves: "patient.read", in: "patient", by: () => get(`${root}/${ids.patient}/$everything`) },
  "fhir.readEverythingByForm": {
    leaves: "patient.read",
    in: "patient",
    by: () => post(`${root}/${ids.patient}/$everything`, { resourceType: "Parameters" }),
  },
  ...auditTableOfReadable,
};

/** Which audit entry each operation of FHIR leaves, in the trail of the service behind it. */
import type { operations } from "@pm/kit/auth/access";
import type { AuditRow } from "./audit-table-billing.ts";
import { done, get, ids, newUser, post } from "./scene.ts";

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
  "fhir.readPatient": { leaves: "patient.read", in: "patient", by: () => get(`/fhir/R4/Patient/${ids.patient}`) },
  "fhir.exportSystem": { leaves: "export.created", in: "patient", by: kickOff("$export") },
  "fhir.exportPatients": { leaves: "export.created", in: "patient", by: kickOff("Patient/$export") },
  "fhir.exportGroup": {
    leaves: "export.created",
    in: "patient",
    by: () => kickOff(`Group/${ids.team}/$export`)(),
  },
  "fhir.readExport": { none: "says what an export of the caller is made of, and nothing about a person" },
  "fhir.readExportFile": { leaves: "patient.exported", in: "patient", by: ofExport("GET", "/Patient") },
  "fhir.cancelExport": { leaves: "export.deleted", in: "patient", by: ofExport("DELETE") },
};

/** Which audit entry each operation of FHIR leaves, in the trail of the service behind it. */
import type { operations } from "@pm/kit/auth/access";
import type { AuditRow } from "./audit-table-billing.ts";
import { get, ids } from "./scene.ts";

type Fhir = Extract<keyof typeof operations, `fhir.${string}`>;

const noPerson = "describes the server and nobody";

export const auditTableOfFhir: Record<Fhir, AuditRow> = {
  "fhir.readMetadata": { none: noPerson },
  "fhir.readPatient": { leaves: "patient.read", in: "patient", by: () => get(`/fhir/R4/Patient/${ids.patient}`) },
};

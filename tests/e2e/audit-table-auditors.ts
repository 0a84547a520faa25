/** Which audit entry every operation of auditors leaves: a part of audit-table.ts. */
import type { operations } from "@pm/kit/auth/access";
import type { AuditRow } from "./audit-table-billing.ts";
import { auditor, get, ids } from "./scene.ts";

const byAuditor = (path: () => string) => () => ({ ...get(path()), token: auditor.token });

const trailOf = <Service extends string>(service: Service) =>
  ({
    [`${service}.listAuditEntries`]: { leaves: "audit.read", by: byAuditor(() => `/audit/${service}`) },
    [`${service}.exportAuditEntries`]: { leaves: "audit.exported", by: byAuditor(() => `/audit/${service}:export`) },
    [`${service}.verifyAuditTrail`]: { leaves: "audit.verified", by: byAuditor(() => `/audit/${service}:verify`) },
  }) as Record<`${Service}.${"listAuditEntries" | "exportAuditEntries" | "verifyAuditTrail"}`, AuditRow>;

export const auditTableOfAuditors = {
  ...trailOf("patient"),
  ...trailOf("billing"),
  ...trailOf("auth"),
  ...trailOf("analytics"),
  "patient.listEmergencies": { leaves: "audit.emergencies_listed", by: byAuditor(() => "/patients/emergencies") },
  "patient.readPatientDisclosures": {
    leaves: "audit.disclosures_read",
    by: byAuditor(() => `/patients/${ids.patient}/disclosures`),
  },
} satisfies Partial<Record<keyof typeof operations, AuditRow>>;

/** `node services/analytics/src/commands/verify-audit.ts`: checks whether the audit trail of operators was changed. */
import { runAuditVerification } from "@pm/kit/audit/verify";

await runAuditVerification("analytics");

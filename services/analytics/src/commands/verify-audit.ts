/** `node services/analytics/src/commands/verify-audit.ts`: whether the audit trail of operators' changes is as it was written. */
import { runAuditVerification } from "@pm/kit/audit/verify";

await runAuditVerification();

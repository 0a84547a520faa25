/** `node services/auth/src/commands/verify-audit.ts`: checks whether the audit trail was changed. */
import { runAuditVerification } from "@pm/kit/audit/verify";

await runAuditVerification("auth");

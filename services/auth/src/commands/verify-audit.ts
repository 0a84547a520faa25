/** `node services/auth/src/commands/verify-audit.ts`: whether the audit trail is as it was written. */
import { runAuditVerification } from "@pm/kit/audit/verify";

await runAuditVerification();

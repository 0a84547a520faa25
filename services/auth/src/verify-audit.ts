/** `node services/auth/src/verify-audit.ts`: whether the audit trail is as it was written. */
import { runAuditVerification } from "@pm/kit/audit";

await runAuditVerification();

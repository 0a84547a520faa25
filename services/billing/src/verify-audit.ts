/** `node services/billing/src/verify-audit.ts [--expect number:hash]`: verifies billing's audit chain. */
import { runAuditVerification } from "@pm/kit/audit";

await runAuditVerification();

/** `node services/billing/src/commands/verify-audit.ts [--expect number:hash]`: verifies billing's audit chain. */
import { runAuditVerification } from "@pm/kit/audit/verify";

await runAuditVerification("billing");

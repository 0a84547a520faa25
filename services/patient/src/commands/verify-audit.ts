import { runAuditVerification } from "@pm/kit/audit/audit";

await runAuditVerification();

import { runAuditVerification } from "@pm/kit/audit/verify";

await runAuditVerification("patient");

import { runAuditVerification } from "@pm/kit/audit";

await runAuditVerification();

/** `node services/patient/src/commands/publish-audit-head.ts`: writes the audit chain's signed head to a folder. */
import { runPublishHead } from "@pm/kit/audit/heads";

await runPublishHead("patient");

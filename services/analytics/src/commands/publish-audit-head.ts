/**
 * `node services/analytics/src/commands/publish-audit-head.ts`: signs the head of the audit chain and writes it to a
 * directory.
 */
import { runPublishHead } from "@pm/kit/audit/heads";

await runPublishHead("analytics");

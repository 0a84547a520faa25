/**
 * `node services/analytics/src/commands/drop-audit-months.ts --keep 120`: drops months of the audit trail beyond
 * retention.
 */
import { runDropMonths } from "@pm/kit/audit/retention";

await runDropMonths("analytics");

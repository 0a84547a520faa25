/** `node services/auth/src/commands/drop-audit-months.ts --keep 120`: drops audit months beyond retention. */
import { runDropMonths } from "@pm/kit/audit/retention";

await runDropMonths("auth");

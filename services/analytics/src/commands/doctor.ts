/** `node services/analytics/src/commands/doctor.ts [--json]`: says what is wrong with the running service. */
import { join } from "node:path";
import { runDoctor } from "@pm/kit/doctor/doctor";

await runDoctor("analytics", { migrations: join(import.meta.dirname, "../migrations") });

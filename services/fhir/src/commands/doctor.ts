/** `node services/fhir/src/commands/doctor.ts [--json]`: says whether the service answers. It has no database. */
import { runDoctor } from "@pm/kit/doctor/doctor";

await runDoctor("fhir");

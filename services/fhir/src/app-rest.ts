/** The API, from what it is made of. `main.ts` runs it, and a test reads its OpenAPI document. */

import type { Verifier } from "@pm/kit/auth/verifier";
import { createRestApp } from "@pm/kit/http/rest";
import type { Lifecycle } from "@pm/kit/lifecycle";
import type { Logger } from "@pm/kit/log";
import { about } from "./about.ts";
import { registerConformance } from "./conformance/rest.ts";
import { createPatients } from "./patients/client.ts";
import { patientCapability, registerPatients } from "./patients/rest.ts";
import { createInner } from "./rest/inner.ts";
import { outcomes } from "./rest/outcome.ts";
import { root } from "./rest/resource.ts";

type Options = {
  service: string;
  log: Logger;
  lifecycle: Lifecycle;
  verifier: Verifier;
  /** The gateway, as clients call it. */
  publicUrl: string;
  patientUrl: string;
};

export function createFhirApp({ publicUrl, patientUrl, ...parts }: Options) {
  const base = `${publicUrl}${root}`;
  const rest = createRestApp({ ...parts, ...about, errors: outcomes });
  registerConformance(rest, { base, capabilities: [patientCapability] });
  registerPatients(rest, { base, patients: createPatients(createInner(patientUrl)) });
  return rest.app;
}

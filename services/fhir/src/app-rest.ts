/** The API, from what it is made of. `main.ts` runs it, and a test reads its OpenAPI document. */

import type { Verifier } from "@pm/kit/auth/verifier";
import { createRestApp } from "@pm/kit/http/rest";
import type { Lifecycle } from "@pm/kit/lifecycle";
import type { Logger } from "@pm/kit/log";
import { about } from "./about.ts";
import { registerBundles } from "./bundles/rest.ts";
import { registerConformance } from "./conformance/rest.ts";
import { createExports } from "./exports/client.ts";
import { exportOperations, registerExports } from "./exports/rest.ts";
import { createPatients } from "./patients/client.ts";
import { createHistory } from "./patients/history.ts";
import { registerHistory } from "./patients/history-rest.ts";
import { createPatientRules } from "./patients/patients.ts";
import { patientCapability, registerPatients } from "./patients/rest.ts";
import { createPatientSearch } from "./patients/search.ts";
import { registerPatientSearch } from "./patients/search-rest.ts";
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
  authUrl: string;
};

export function createFhirApp({ publicUrl, patientUrl, authUrl, ...parts }: Options) {
  const base = `${publicUrl}${root}`;
  const rest = createRestApp({ ...parts, ...about, errors: outcomes });
  const [inner, auth] = [createInner(patientUrl), createInner(authUrl)];
  const capabilities = [patientCapability];
  registerConformance(rest, { base, capabilities, operations: exportOperations, auth });
  const served = capabilities.map(({ type }) => type);
  registerExports(rest, { base, served, exports: createExports(inner, auth) });
  const patients = createPatients(inner);
  registerHistory(rest, { base, history: createHistory(patients) });
  registerPatientSearch(rest, { base, search: createPatientSearch(patients, base) });
  registerPatients(rest, { base, patients: createPatientRules(patients) });
  registerBundles(rest);
  return rest.app;
}

/** For tests: the API in this process, with nothing behind it unless a test says where it is. */

import type { Verifier } from "@pm/kit/auth/verifier";
import { createLogger } from "@pm/kit/log";
import { testLifecycle } from "@pm/kit/test/lifecycle";
import { createFhirApp } from "../src/app-rest.ts";

const nowhere = "http://127.0.0.1:9";

/** Takes every token for that of one caller. The services behind decide what it is good for. */
const verifier: Verifier = {
  verify: async (authorization) => ({
    kind: "user",
    id: "7f9c2ba4-e88f-4b3a-a6c5-3f1d2b4c5a69",
    sessionId: undefined,
    roles: [],
    scopes: new Set(),
    teams: [],
    hasSecondFactor: false,
    token: authorization ?? "",
    issuedAt: 0,
    expiresAt: 0,
  }),
  onRevoked: () => () => undefined,
};

const publicUrl = "https://clinic.example";

export const testApp = ({ patientUrl = nowhere, billingUrl = nowhere, authUrl = nowhere, analyticsUrl = nowhere } = {}) => {
  const parts = { service: "fhir", log: createLogger("fhir", "silent"), lifecycle: testLifecycle(), verifier };
  return createFhirApp({ ...parts, publicUrl, patientUrl, billingUrl, authUrl, analyticsUrl });
};

/** The FHIR service: it speaks FHIR outwards and our own APIs inwards, as the caller. */
import { listenHttp } from "@pm/kit/http/server";
import { createPassingVerifier, startStateless } from "@pm/kit/service";
import { createFhirApp } from "./app-rest.ts";
import { readConfig } from "./config.ts";

const config = readConfig();
const parts = startStateless({ service: "fhir", config });
const { log, lifecycle } = parts;
const verifier = createPassingVerifier(config);

const app = createFhirApp({
  ...{ ...parts, verifier, publicUrl: config.AUTH_ISSUER },
  ...{ patientUrl: config.PATIENT_URL, billingUrl: config.BILLING_URL },
  ...{ authUrl: config.AUTH_URL, analyticsUrl: config.ANALYTICS_URL },
});
await listenHttp({ app, host: config.HOST, port: config.PORT, log, lifecycle });

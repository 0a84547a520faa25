import { commonConfig, port, readEnvironment, serviceUrl, tokenConfig } from "@pm/kit/config";

/** Reads the environment of this service. docs/configuration.md says what each variable means. */
export const readConfig = () =>
  readEnvironment({
    ...commonConfig,
    ...tokenConfig,
    PORT: port(4003),
    AUTH_URL: serviceUrl,
    PATIENT_URL: serviceUrl,
    BILLING_URL: serviceUrl,
    ANALYTICS_URL: serviceUrl,
  });

import { callerConfig, commonConfig, cursorKey, databaseConfig, kafkaConfig, port, serviceUrl } from "@pm/kit/config";

/** The environment of the patient service; see docs/architecture.md. */
export const patientConfig = {
  ...commonConfig,
  ...databaseConfig,
  ...kafkaConfig,
  ...callerConfig,
  PORT: port(4000),
  BILLING_URL: serviceUrl,
  CURSOR_KEY: cursorKey,
};

import {
  callerConfig,
  clinicTimeZone,
  commonConfig,
  cursorKey,
  databaseConfig,
  kafkaConfig,
  port,
  readEnvironment,
  serviceUrl,
} from "@pm/kit/config";

/** The environment of the patient service; see docs/configuration.md. */
export const readConfig = () =>
  readEnvironment({
    ...commonConfig,
    ...databaseConfig,
    ...kafkaConfig,
    ...callerConfig,
    PORT: port(4000),
    CLINIC_TIME_ZONE: clinicTimeZone,
    BILLING_URL: serviceUrl,
    CURSOR_KEY: cursorKey,
  });

import { callerConfig, clinicTimeZone, commonConfig, databaseConfig, kafkaConfig, port, readEnvironment, serviceUrl } from "@pm/kit/config";

/** Reads the environment of this service. docs/configuration.md says what each variable means. */
export const readConfig = () =>
  readEnvironment({
    ...commonConfig,
    ...databaseConfig,
    ...kafkaConfig,
    ...callerConfig,
    PORT: port(4002),
    CLINIC_TIME_ZONE: clinicTimeZone,
    PATIENT_URL: serviceUrl,
    BILLING_URL: serviceUrl,
  });

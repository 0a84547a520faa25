import {
  callerConfig,
  clinicConfig,
  commonConfig,
  cursorKey,
  databaseConfig,
  kafkaConfig,
  port,
  readEnvironment,
  serviceUrl,
} from "@pm/kit/config";
import { type CountryCode, isSupportedCountry } from "libphonenumber-js/min";
import { z } from "zod";

/** What the clinic asks of a record. */
export type RecordSettings = ReturnType<typeof recordSettings>;

export const recordSettings = (config: z.infer<z.ZodObject<typeof clinicConfig>>) => ({
  clinicTimeZone: config.CLINIC_TIME_ZONE,
  emailRequired: config.EMAIL_REQUIRED,
  emailUnique: config.EMAIL_UNIQUE,
  addressRequired: config.ADDRESS_REQUIRED,
  dateOfBirthPrecision: config.DATE_OF_BIRTH_PRECISION,
  phoneRegion: config.PHONE_REGION as CountryCode,
});

/** How the clinic writes days: it decides what 01/02/1985 is in a search. `YMD` has no such form: it is either. */
const dateOrders = ["YMD", "DMY", "MDY"] as const;
export type DateOrder = (typeof dateOrders)[number];

/** How long the record of a patient has to be kept after it was last written. */
const recordRetention = { RECORD_RETENTION_YEARS: z.coerce.number().int().min(0).max(100).default(10) };

/** What the commands about erasures need of the environment. */
export const readErasureConfig = () => readEnvironment({ ...databaseConfig, ...kafkaConfig, ...recordRetention });

/** The environment of the patient service; see docs/configuration.md. */
export const readConfig = () =>
  readEnvironment({
    ...commonConfig,
    ...databaseConfig,
    ...kafkaConfig,
    ...callerConfig,
    PORT: port(4000),
    ...clinicConfig,
    PHONE_REGION: clinicConfig.PHONE_REGION.refine(isSupportedCountry, "must be a country that has phone numbers, such as US or CH"),
    BILLING_URL: serviceUrl,
    ...recordRetention,
    ANALYTICS_URL: serviceUrl,
    CURSOR_KEY: cursorKey,
    RECORD_NUMBER_PREFIX: z
      .string()
      .regex(/^[A-Z]{1,6}$/, "must be 1 to 6 letters, A to Z")
      .default("P"),
    RECORD_NUMBER_START: z.coerce.number().int().min(1).max(1_000_000_000_000).default(100_000),
    MATCH_MODEL: z.string().min(1).optional(),
    DATE_ORDER: z.enum(dateOrders).default("YMD"),
  });

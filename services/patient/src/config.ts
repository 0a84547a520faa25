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
import { z } from "zod";

/** How the clinic writes days: it decides what 01/02/1985 is in a search. With `YMD`, which has no such form, it is either. */
const dateOrders = ["YMD", "DMY", "MDY"] as const;
export type DateOrder = (typeof dateOrders)[number];

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
    DATE_ORDER: z.enum(dateOrders).default("YMD"),
  });

/** Billing's environment. */

import { callerConfig, commonConfig, cursorKey, databaseConfig, kafkaConfig, loadConfig, port, serviceUrl } from "@pm/kit/config";
import { z } from "zod";
import { isCurrency } from "./money.ts";

export const config = loadConfig({
  ...commonConfig,
  ...databaseConfig,
  ...kafkaConfig,
  ...callerConfig,
  PORT: port(4001),
  PATIENT_URL: serviceUrl,
  CURSOR_KEY: cursorKey,
  /** The currency of accounts that are opened without one. */
  CURRENCY: z.string().refine(isCurrency, "must be a currency of ISO 4217, such as EUR").default("EUR"),
});

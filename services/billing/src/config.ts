/** Billing's settings, from the environment. */
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
import { isCurrency } from "@pm/kit/money";
import { z } from "zod";

/** @throws Error that names every variable that is missing or wrong */
export function readConfig() {
  return readEnvironment({
    ...commonConfig,
    ...databaseConfig,
    ...kafkaConfig,
    ...callerConfig,
    PORT: port(4001),
    CLINIC_TIME_ZONE: clinicTimeZone,
    PATIENT_URL: serviceUrl,
    CURSOR_KEY: cursorKey,
    /** How long invoices and credit notes have to be kept after their day of issue. */
    BILLING_RETENTION_YEARS: z.coerce.number().int().min(0).max(100).default(10),
    /** The currency of accounts that are opened without one. */
    CURRENCY: z.string().refine(isCurrency, "must be a currency of ISO 4217, such as EUR").default("EUR"),
    /** How often patients and accounts are compared; the first time is a minute after the start. */
    RECONCILE_EVERY_MS: z.coerce.number().int().min(60_000).max(2_147_483_647).default(3_600_000),
    /** The sender of invoices and statements. */
    CLINIC_NAME: z.string().min(1).max(100).default("Lakeside Clinic"),
    CLINIC_ADDRESS: z.string().max(300).default("1 Harbour Street, 12345 Lakeside"),
    CLINIC_PAYMENT_DETAILS: z.string().max(300).default("Pay at the reception, or by transfer to the account on our letterhead."),
  });
}

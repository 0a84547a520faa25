import { commonConfig, cursorKey, databaseConfig, kafkaConfig, port, serviceUrl, tokenConfig } from "@pm/kit/config";
import { z } from "zod";
import { parseNetworks } from "./client-address.ts";

const clientSecret = z.string().min(16, "must have at least 16 characters");
const seconds = (least: number, standard: number) => z.coerce.number().int().min(least).default(standard);

/** What signing keys need; the command rotate-keys.ts needs no more. */
export const keyConfig = {
  /** Seals signing keys and the secrets of second factors. */
  KEY_ENCRYPTION_KEY: z
    .base64()
    .transform((value) => Buffer.from(value, "base64"))
    .refine((key) => key.length === 32, "must be 32 bytes in base64"),
  /** How long a key is published before it signs: longer than the gateway's JWKS_CACHE_SECONDS, since Envoy does not fetch again for a key id that it does not know. */
  KEY_PUBLISH_SECONDS: seconds(1, 900),
  /** How long a key signs. */
  KEY_ROTATION_SECONDS: seconds(60, 30 * 86_400),
  ACCESS_TOKEN_SECONDS: seconds(10, 300).pipe(z.number().max(3_600)),
};

/** The environment of auth; docs/architecture.md explains every variable. */
export const authConfig = {
  ...commonConfig,
  ...databaseConfig,
  ...kafkaConfig,
  ...tokenConfig,
  ...keyConfig,
  PORT: port(4005),
  CURSOR_KEY: cursorKey,
  ADMIN_EMAIL: z.email().default("admin@example.com"),
  ADMIN_PASSWORD: z.string().min(8).max(128).optional(),
  PATIENT_CLIENT_SECRET: clientSecret,
  BILLING_CLIENT_SECRET: clientSecret,
  ANALYTICS_CLIENT_SECRET: clientSecret,
  REFRESH_GRACE_SECONDS: seconds(0, 30).pipe(z.number().max(120)),
  /** A session that was not refreshed for this long is over; a shift. */
  SESSION_IDLE_SECONDS: seconds(10, 12 * 3_600),
  /** However much it is used; a week. */
  SESSION_MAX_SECONDS: seconds(10, 7 * 86_400),
  /** Who has to have a second factor. */
  SECOND_FACTOR_REQUIRED: z.enum(["nobody", "admins", "everybody"]).default("nobody"),
  SIGNUP: z.enum(["off", "mail", "open"]).default("mail"),
  /** `print:` writes mails onto the terminal: for development only, since they contain links. */
  MAIL_URL: z
    .string()
    .regex(/^(print:$|smtps?:\/\/)/, "must be smtp://…, smtps://… or print:")
    .optional(),
  MAIL_FROM: z.string().default("Patient Management <no-reply@localhost>"),
  /** Where links in mails lead; the gateway (AUTH_ISSUER) unless a user interface has these pages. */
  LINK_BASE_URL: serviceUrl.optional(),
  /** From here a connection may say, by x-envoy-external-address, whose request it passes on: by default loopback and the private networks, where gateways live. */
  GATEWAY_NETWORKS: z
    .string()
    .default("127.0.0.0/8,::1/128,10.0.0.0/8,172.16.0.0/12,192.168.0.0/16,fc00::/7")
    .transform((value, context) => {
      try {
        return parseNetworks(value);
      } catch (error) {
        context.addIssue({ code: "custom", message: error instanceof Error ? error.message : "is not a list of networks" });
        return z.NEVER;
      }
    }),
  /** Passwords that may wait to be checked; beyond them a login is refused at once instead of being answered too late. */
  PASSWORD_QUEUE: seconds(1, 100),
};

import { commonConfig, cursorKey, databaseConfig, kafkaConfig, port, tokenConfig } from "@pm/kit/config";
import { z } from "zod";
import { parseNetworks } from "./origin.ts";

const clientSecret = z.string().min(16, "must have at least 16 characters");

/** The environment of auth; docs/architecture.md explains every variable. */
export const config = {
  ...commonConfig,
  ...databaseConfig,
  ...kafkaConfig,
  ...tokenConfig,
  PORT: port(4005),
  CURSOR_KEY: cursorKey,
  KEY_ENCRYPTION_KEY: z
    .base64()
    .transform((value) => Buffer.from(value, "base64"))
    .refine((key) => key.length === 32, "must be 32 bytes in base64"),
  ADMIN_EMAIL: z.email().default("admin@example.com"),
  ADMIN_PASSWORD: z.string().min(8).max(128).optional(),
  PATIENT_CLIENT_SECRET: clientSecret,
  BILLING_CLIENT_SECRET: clientSecret,
  ANALYTICS_CLIENT_SECRET: clientSecret,
  ACCESS_TOKEN_SECONDS: z.coerce.number().int().min(10).max(3_600).default(300),
  REFRESH_GRACE_SECONDS: z.coerce.number().int().min(0).max(120).default(30),
  SESSION_IDLE_SECONDS: z.coerce
    .number()
    .int()
    .min(60)
    .default(12 * 3_600),
  SESSION_MAX_SECONDS: z.coerce
    .number()
    .int()
    .min(60)
    .default(7 * 86_400),
  // Longer than the gateway's JWKS_CACHE_SECONDS, because Envoy does not fetch again for a key id that it does not know.
  KEY_PUBLISH_SECONDS: z.coerce.number().int().min(1).default(900),
  KEY_ROTATION_SECONDS: z.coerce
    .number()
    .int()
    .min(60)
    .default(30 * 86_400),
  // From here a connection may say, by x-envoy-external-address, whose request it passes on. The default is loopback and the
  // private networks, where a gateway of a cluster lives.
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
  // Passwords that wait for a check; beyond them a login is refused at once instead of being answered too late.
  PASSWORD_QUEUE: z.coerce.number().int().min(1).max(10_000).default(100),
};

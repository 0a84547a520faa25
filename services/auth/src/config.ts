/** The environment of auth. docs/configuration.md explains every variable. */
import { BlockList, isIPv4, isIPv6 } from "node:net";
import { commonConfig, cursorKey, databaseConfig, kafkaConfig, port, readEnvironment, serviceUrl, tokenConfig } from "@pm/kit/config";
import { z } from "zod";

const clientSecret = z.string().min(16, "must have at least 16 characters");
const wholeNumber = (least: number, standard: number) => z.coerce.number().int().min(least).default(standard);

const keyConfig = {
  /** Encrypts signing keys and the secrets of second factors. */
  KEY_ENCRYPTION_KEY: z
    .base64()
    .transform((value) => Buffer.from(value, "base64"))
    .refine((key) => key.length === 32, "must be 32 bytes in base64"),
  /**
   * How long a key is published before it signs. It must be longer than the gateway's JWKS_CACHE_SECONDS, because Envoy
   * does not fetch the key set again when it meets an unknown key id.
   */
  KEY_PUBLISH_SECONDS: wholeNumber(1, 900),
  /** How long a key signs. */
  KEY_ROTATION_SECONDS: wholeNumber(60, 30 * 86_400),
  ACCESS_TOKEN_SECONDS: wholeNumber(10, 300).pipe(z.number().max(3_600)),
};

/** What the command that rotates signing keys needs. */
export function readKeyConfig() {
  return readEnvironment({ LOG_LEVEL: commonConfig.LOG_LEVEL, ...databaseConfig, ...keyConfig });
}

/** What the service needs. */
export function readConfig() {
  return readEnvironment({
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
    REFRESH_GRACE_SECONDS: wholeNumber(0, 30).pipe(z.number().max(120)),
    /** A session ends when it is not refreshed for this long. The default is a shift. */
    SESSION_IDLE_SECONDS: wholeNumber(10, 12 * 3_600),
    /** A session ends after this long, even if it is in use. The default is a week. */
    SESSION_MAX_SECONDS: wholeNumber(10, 7 * 86_400),
    /** Who must have a second factor. */
    SECOND_FACTOR_REQUIRED: z.enum(["nobody", "admins", "everybody"]).default("nobody"),
    SIGNUP: z.enum(["off", "mail", "open"]).default("mail"),
    /** What those who sign up may do before an administrator gives them a role: nothing, or what users may. */
    SIGNUP_ROLE: z.enum(["none", "user"]).default("none"),
    /** `print:` writes mails to the terminal. It is for development only, because mails contain links. */
    MAIL_URL: z
      .string()
      .regex(/^(print:$|smtps?:\/\/)/, "must be smtp://…, smtps://… or print:")
      .optional(),
    MAIL_FROM: z.string().default("Patient Management <no-reply@localhost>"),
    /** Where links in mails lead. Without it, they lead to the gateway (AUTH_ISSUER). */
    LINK_BASE_URL: serviceUrl.optional(),
    /**
     * Where the gateway's address does not tell it from other programs, as in Kubernetes, it sends this secret with
     * the address of its client (x-envoy-external-address).
     */
    GATEWAY_SECRET: z.string().min(16, "must have at least 16 characters").optional(),
    /** The networks of gateways. A connection from here may state the address of its client without the secret. */
    GATEWAY_NETWORKS: z
      .string()
      .default("127.0.0.0/8,::1/128")
      .transform((value, context) => {
        try {
          return parseNetworks(value);
        } catch (error) {
          context.addIssue({ code: "custom", message: error instanceof Error ? error.message : "is not a list of networks" });
          return z.NEVER;
        }
      }),
    /** How many passwords may wait to be checked. While the queue is full, a login is refused at once. */
    PASSWORD_QUEUE: wholeNumber(1, 100),
  });
}

/**
 * Reads a list of networks, such as `10.0.0.0/8,::1/128`.
 * @throws Error that names the entry that is not a network
 */
export function parseNetworks(text: string): BlockList {
  const list = new BlockList();
  const entries = text.split(",").map((part) => part.trim());
  for (const entry of entries.filter(Boolean)) {
    const [address = "", length] = entry.split("/");
    const family = isIPv4(address) ? "ipv4" : isIPv6(address) ? "ipv6" : undefined;
    const bits = length === undefined ? (family === "ipv4" ? 32 : 128) : Number(length);
    if (!family || !Number.isInteger(bits) || bits < 0 || bits > (family === "ipv4" ? 32 : 128))
      throw new Error(`${entry} is not a network such as 10.0.0.0/8`);
    list.addSubnet(address, bits, family);
  }
  return list;
}

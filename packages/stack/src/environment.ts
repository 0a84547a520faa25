import type { DatabaseName, Ports, ServiceName } from "./names.ts";
import type { Secrets } from "./secrets.ts";

const AUDIENCE = "patient-management";

type PlatformAddresses = {
  secrets: Secrets;
  ports: Ports;
  gatewayUrl: string;
  host: string;
  brokers: string[];
  databases: Record<DatabaseName, { databaseUrl: string }>;
};

/** Each service's environment variables (docs/configuration.md). */
export function environmentFor(platform: PlatformAddresses): Record<ServiceName, Record<string, string>> {
  const { ports, databases } = platform;
  const { clientSecrets, cursorKey, keyEncryptionKey, adminEmail, adminPassword } = platform.secrets;
  const urlOf = (name: ServiceName) => `http://127.0.0.1:${ports[name]}`;
  const stateless = { HOST: platform.host, AUTH_ISSUER: platform.gatewayUrl, AUTH_AUDIENCE: AUDIENCE };
  const common = (name: DatabaseName) => ({
    ...stateless,
    DATABASE_URL: databases[name].databaseUrl,
    KAFKA_BROKERS: platform.brokers.join(","),
  });
  const urls = { AUTH_URL: urlOf("auth"), BILLING_URL: urlOf("billing"), PATIENT_URL: urlOf("patient"), ANALYTICS_URL: urlOf("analytics") };
  return {
    auth: {
      ...common("auth"),
      PATIENT_CLIENT_SECRET: clientSecrets.patient,
      BILLING_CLIENT_SECRET: clientSecrets.billing,
      ANALYTICS_CLIENT_SECRET: clientSecrets.analytics,
      CURSOR_KEY: cursorKey,
      KEY_ENCRYPTION_KEY: keyEncryptionKey,
      ADMIN_EMAIL: adminEmail,
      ADMIN_PASSWORD: adminPassword,
      // On a laptop. Envoy in Docker connects from a private network.
      GATEWAY_NETWORKS: "127.0.0.0/8,::1/128,10.0.0.0/8,172.16.0.0/12,192.168.0.0/16",
    },
    billing: { ...common("billing"), ...urls, CLIENT_SECRET: clientSecrets.billing, CURSOR_KEY: cursorKey },
    patient: { ...common("patient"), ...urls, CLIENT_SECRET: clientSecrets.patient, CURSOR_KEY: cursorKey },
    analytics: { ...common("analytics"), ...urls, CLIENT_SECRET: clientSecrets.analytics },
    fhir: { ...stateless, ...urls },
  };
}

/** The values of the placeholders in services/gateway/envoy.yaml, for one machine. */
export function gatewayVariables(services: readonly ServiceName[], ports: Ports, gatewayUrl: string, host: string): Record<string, string> {
  const upstreams = services.flatMap((name) => [
    [`${name.toUpperCase()}_HOST`, "127.0.0.1"],
    [`${name.toUpperCase()}_PORT`, String(ports[name])],
  ]);
  return {
    ...Object.fromEntries(upstreams),
    ADDRESS: host,
    PORT: String(ports.gateway),
    HEALTH_PORT: String(ports.gatewayHealth),
    // The admin interface can stop Envoy, so it listens for this machine only.
    ADMIN_ADDRESS: "127.0.0.1",
    ADMIN_PORT: String(ports.gatewayAdmin),
    AUTH_ISSUER: gatewayUrl,
    AUTH_AUDIENCE: AUDIENCE,
    JWKS_CACHE_SECONDS: "60",
    HSTS: "",
    TRUSTED_HOPS: "0",
    CORS_ORIGINS: "[]",
    LOGIN_RATE_PER_SECOND: "20",
    SIGNUP_RATE_PER_SECOND: "5",
    REFRESH_RATE_PER_SECOND: "50",
    DRAIN_SECONDS: "1",
    COLLECTOR_HOST: "127.0.0.1",
    COLLECTOR_PORT: "4318",
    TRACING: "off",
    TRACES_PER_MILLION: "0",
    TRUST_TRACEPARENT: "false",
  };
}

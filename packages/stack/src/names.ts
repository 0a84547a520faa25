/** The services and the ports of the platform, by name. */
/** Those with a database each. */
export const DATABASES = ["auth", "billing", "patient", "analytics"] as const;
export type DatabaseName = (typeof DATABASES)[number];
export const SERVICES = [...DATABASES, "fhir"] as const;
export type ServiceName = (typeof SERVICES)[number];

/** Where `npm start` and the chart listen. A developer calls these; every other port may be any free one. */
export const PUBLIC_PORTS: Record<ServiceName | "gateway", number> = {
  patient: 4000,
  billing: 4001,
  analytics: 4002,
  fhir: 4003,
  gateway: 4004,
  auth: 4005,
};

export type Ports = Record<keyof typeof PUBLIC_PORTS | "gatewayAdmin" | "gatewayHealth" | "postgres" | "kafka", number>;

/** The services and the ports of the platform, by name. */
export const SERVICES = ["auth", "billing", "patient", "analytics"] as const;
export type ServiceName = (typeof SERVICES)[number];

/** Where `npm start` and the chart listen. A developer calls these; every other port may be any free one. */
export const PUBLIC_PORTS: Record<ServiceName | "gateway", number> = {
  patient: 4000,
  billing: 4001,
  analytics: 4002,
  gateway: 4004,
  auth: 4005,
};

export type Ports = Record<keyof typeof PUBLIC_PORTS | "gatewayAdmin" | "gatewayHealth" | "postgres" | "kafka", number>;

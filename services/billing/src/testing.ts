/** For tests: billing as a process of its own, and an issuer of tokens that it trusts. Real keys, real HTTP, real signatures. */
import { randomUUID } from "node:crypto";
import { once } from "node:events";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { roles, type ServiceName, services } from "@pm/kit/access";
import { freePort } from "@pm/stack/ports";
import { type Service, startService } from "@pm/stack/services";
import { exportJWK, generateKeyPair, SignJWT } from "jose";

export const issuer = "http://localhost:4004";
export const audience = "patient-management";

export type Issuer = {
  /** Serves the JWKS, `POST /auth/token` and `GET /auth/revocations` as auth does. */
  url: string;
  /** The `authorization` header of somebody with these roles. */
  person(role: keyof typeof roles, options?: { id?: string; expiresInSeconds?: number }): Promise<string>;
  /** The `authorization` header of a service. */
  service(name: ServiceName): Promise<string>;
  close(): Promise<void>;
};

/** Starts an issuer that signs by the scopes of the access table. */
export async function startIssuer(): Promise<Issuer> {
  const { publicKey, privateKey } = await generateKeyPair("ES256");
  const jwk = { ...(await exportJWK(publicKey)), kid: "test", alg: "ES256", use: "sig" };
  const sign = (claims: Record<string, unknown>, seconds: number) =>
    new SignJWT({ jti: randomUUID(), ...claims })
      .setProtectedHeader({ alg: "ES256", typ: "at+jwt", kid: "test" })
      .setIssuer(issuer)
      .setAudience(audience)
      .setIssuedAt()
      .setExpirationTime(Math.floor(Date.now() / 1_000) + seconds)
      .sign(privateKey);
  const service = (name: ServiceName) => sign({ sub: `service:${name}`, scope: services[name].join(" ") }, 300);
  const server = createServer(async (request, response) => {
    response.setHeader("content-type", "application/json");
    if (request.url === "/.well-known/jwks.json") return response.end(JSON.stringify({ keys: [jwk] }));
    if (request.url === "/auth/revocations") return response.end(JSON.stringify({ sessions: [], users: [] }));
    const client = /^Basic (.+)$/.exec(request.headers.authorization ?? "")?.[1] ?? "";
    const name = Buffer.from(client, "base64").toString().split(":")[0] as ServiceName;
    if (request.url === "/auth/token" && name in services)
      return response.end(JSON.stringify({ access_token: await service(name), token_type: "Bearer", expires_in: 300 }));
    return response.writeHead(404).end("{}");
  });
  await once(server.listen(0, "127.0.0.1"), "listening");
  return {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    async person(role, { id = randomUUID(), expiresInSeconds = 300 } = {}) {
      return `Bearer ${await sign({ sub: id, sid: randomUUID(), roles: [role], scope: roles[role].join(" ") }, expiresInSeconds)}`;
    },
    service: async (name) => `Bearer ${await service(name)}`,
    async close() {
      server.close();
      server.closeAllConnections();
    },
  };
}

/** Starts billing as a process. Its Kafka may be away: events then stay in the outbox, where tests can look at them. */
export async function startBilling(options: {
  databaseUrl: string;
  issuer: Issuer;
  brokers?: string[];
  patientUrl?: string;
  env?: Record<string, string>;
}): Promise<Service> {
  const nowhere = "127.0.0.1:9";
  return startService({
    name: "billing",
    port: await freePort(),
    env: {
      HOST: "127.0.0.1",
      LOG_LEVEL: "warn",
      DATABASE_URL: options.databaseUrl,
      KAFKA_BROKERS: options.brokers?.join(",") ?? nowhere,
      AUTH_URL: options.issuer.url,
      AUTH_ISSUER: issuer,
      AUTH_AUDIENCE: audience,
      PATIENT_URL: options.patientUrl ?? `http://${nowhere}`,
      CLIENT_SECRET: "billing-secret-for-tests",
      CURSOR_KEY: "0123456789abcdef0123456789abcdef",
      ...options.env,
    },
  });
}

/** A real Envoy with the real template, in front of servers that answer with what reached them, and signed tokens. */
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { SERVICES, type ServiceName } from "@pm/stack/names";
import { type Envoy, startEnvoy } from "@pm/stack/native/envoy";
import { freePort } from "@pm/stack/programs/ports";
import { type CryptoKey, exportJWK, generateKeyPair, type JWK, SignJWT } from "jose";
import { startUpstream, type Upstream } from "./upstreams.ts";

export const template = join(import.meta.dirname, "../../services/gateway/envoy.yaml");
export const issuer = "http://localhost:4004";
export const audience = "patient-management";

export type SigningKey = { id: string; publicJwk: JWK; privateKey: CryptoKey };

export async function createSigningKey(id: string): Promise<SigningKey> {
  const { publicKey, privateKey } = await generateKeyPair("ES256");
  return { id, privateKey, publicJwk: { ...(await exportJWK(publicKey)), kid: id, alg: "ES256", use: "sig" } };
}

/** Claims of an access token that a test changes. Times are seconds since the epoch. */
export type TokenOptions = { issuer?: string; audience?: string; subject?: string; expiresAt?: number | undefined };

export const inSeconds = (seconds: number): number => Math.floor(Date.now() / 1_000) + seconds;

/** Signs an access token of user-1 in session-1 as auth does. `options` make it wrong in one way. */
export function signToken(key: SigningKey, options: TokenOptions = {}): Promise<string> {
  const token = new SignJWT({ sid: "session-1", roles: ["admin"], scope: "patient:read patient:write", jti: crypto.randomUUID() })
    .setProtectedHeader({ alg: "ES256", typ: "at+jwt", kid: key.id })
    .setIssuer(options.issuer ?? issuer)
    .setAudience(options.audience ?? audience)
    .setSubject(options.subject ?? "user-1")
    .setIssuedAt();
  if (!("expiresAt" in options)) token.setExpirationTime("5m");
  else if (options.expiresAt !== undefined) token.setExpirationTime(options.expiresAt);
  return token.sign(key.privateKey);
}

export type Gateway = {
  url: string;
  /** The port for Kubernetes and Prometheus. */
  internalUrl: string;
  adminUrl: string;
  upstreams: Record<ServiceName, Upstream>;
  /** The keys that auth publishes now. Tests may change the list. */
  keys: SigningKey[];
  /** How often Envoy has fetched the keys. */
  keyFetches(): number;
  /** Headers with a valid token. */
  signedIn: { authorization: string };
  /** The lines of Envoy's output. */
  log: string[];
  stop(): Promise<void>;
};

export type GatewayOptions = {
  /** Changes the template, for example to shorten a time that a test would have to wait for. */
  change?: (template: string) => string;
  /** Placeholders of the template to change. */
  variables?: Record<string, string>;
  /** Upstreams that do not listen at first. */
  down?: ServiceName[];
};

export async function startGateway({ variables = {}, down = [], change = (text) => text }: GatewayOptions = {}): Promise<Gateway> {
  const key = await createSigningKey("key-1");
  const keys = [key];
  const started = await Promise.all(SERVICES.map(startUpstream));
  const upstreams = Object.fromEntries(SERVICES.map((name, index) => [name, started[index]])) as Record<ServiceName, Upstream>;
  let fetches = 0;
  upstreams.auth.handler = (request, answer) => {
    if (request.url !== "/.well-known/jwks.json") return false;
    fetches += 1;
    answer.setHeader("content-type", "application/json");
    answer.end(JSON.stringify({ keys: keys.map(({ publicJwk }) => publicJwk) }));
    return true;
  };
  for (const name of down) await upstreams[name].stop();

  const [port, healthPort, adminPort] = [await freePort(), await freePort(), await freePort()];
  const log: string[] = [];
  const addresses = SERVICES.flatMap((name) => [
    [`${name.toUpperCase()}_HOST`, "127.0.0.1"],
    [`${name.toUpperCase()}_PORT`, String(upstreams[name].port)],
  ]);
  const folder = mkdtempSync(join(tmpdir(), "pm-gateway-"));
  const changed = join(folder, "envoy.yaml");
  writeFileSync(changed, change(readFileSync(template, "utf8")));
  const envoy: Envoy = await startEnvoy({
    template: changed,
    port,
    adminPort,
    onLog: (line) => void log.push(line),
    variables: {
      ...Object.fromEntries(addresses),
      ADDRESS: "127.0.0.1",
      PORT: String(port),
      HEALTH_PORT: String(healthPort),
      ADMIN_ADDRESS: "127.0.0.1",
      ADMIN_PORT: String(adminPort),
      AUTH_ISSUER: issuer,
      AUTH_AUDIENCE: audience,
      JWKS_CACHE_SECONDS: "60",
      HSTS: "",
      TRUSTED_HOPS: "0",
      CORS_ORIGINS: "[]",
      LOGIN_RATE_PER_SECOND: "1000",
      SIGNUP_RATE_PER_SECOND: "1000",
      REFRESH_RATE_PER_SECOND: "1000",
      DRAIN_SECONDS: "1",
      COLLECTOR_HOST: "127.0.0.1",
      COLLECTOR_PORT: "4318",
      TRACING: "off",
      TRACES_PER_MILLION: "0",
      TRUST_TRACEPARENT: "false",
      ...variables,
    },
  });
  return {
    url: envoy.url,
    internalUrl: `http://127.0.0.1:${healthPort}`,
    adminUrl: envoy.adminUrl,
    upstreams,
    keys,
    keyFetches: () => fetches,
    signedIn: { authorization: `Bearer ${await signToken(key)}` },
    log,
    async stop() {
      await envoy.stop();
      rmSync(folder, { recursive: true, force: true });
      await Promise.all(SERVICES.map((name) => upstreams[name].stop()));
    },
  };
}

/** Asks until the answer is right. Throws with the last answer after `milliseconds`. */
export async function eventually<T>(ask: () => Promise<T> | T, isRight: (answer: T) => boolean, milliseconds: number): Promise<T> {
  const deadline = Date.now() + milliseconds;
  for (;;) {
    const answer = await ask();
    if (isRight(answer)) return answer;
    if (Date.now() > deadline) throw new Error(`not within ${milliseconds} ms; the last answer was ${JSON.stringify(answer)}`);
    await new Promise((resolve) => setTimeout(resolve, 25));
  }
}

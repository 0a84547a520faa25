/** A platform with API clients, and their keys, for tests by libraries of others. */
import { randomUUID } from "node:crypto";
import type { Platform } from "@pm/stack/platform";
import { exportJWK, generateKeyPair } from "jose";
import { type Client, clientOf } from "../e2e/client.ts";

export type ApiClient = { id: string; secret: string };

/** Registers an API client through the gateway. Without keys in the body it has a secret. */
export async function register(admin: Client, body: object): Promise<ApiClient> {
  const made = await admin.send("POST", "/auth/clients", { name: `Program ${randomUUID()}`, ...body });
  if (made.status !== 201) throw new Error(`the client was not registered: ${made.status} ${made.text}`);
  return made.body as ApiClient;
}

/** A pair of keys, the private one for the client, and the set of public keys to register. */
export async function newKeys(alg: "RS384" | "ES384" | "EdDSA") {
  const { publicKey, privateKey } = await generateKeyPair(alg, { extractable: true });
  return { privateKey, kid: alg, jwks: { keys: [{ ...(await exportJWK(publicKey)), kid: alg, alg }] } };
}

/** The token of a client with a secret. */
export async function tokenOf(platform: Platform, { id, secret }: ApiClient): Promise<Client> {
  const body = new URLSearchParams({ grant_type: "client_credentials", client_id: id, client_secret: secret }).toString();
  const headers = { "content-type": "application/x-www-form-urlencoded" };
  const answer = await clientOf(platform.gatewayUrl).send("POST", "/auth/token", body, headers);
  if (answer.status !== 200) throw new Error(`POST /auth/token answered ${answer.status}: ${answer.text}`);
  return clientOf(platform.gatewayUrl, (answer.body as { access_token: string }).access_token);
}

/** A client that sends JSON through the gateway, with or without a token. */
import type { Platform } from "@pm/stack/platform";

type Answer = { status: number; headers: Headers; body: unknown; text: string };
export type Client = {
  token: string;
  get(path: string, headers?: Record<string, string>): Promise<Answer>;
  send(method: string, path: string, body?: unknown, headers?: Record<string, string>): Promise<Answer>;
};

export function clientOf(base: string, token = ""): Client {
  const send: Client["send"] = async (method, path, body, headers = {}) => {
    const response = await fetch(`${base}${path}`, {
      method,
      headers: {
        ...(token !== "" && { authorization: `Bearer ${token}` }),
        ...(body !== undefined && { "content-type": "application/json" }),
        ...headers,
      },
      ...(body !== undefined && { body: typeof body === "string" ? body : JSON.stringify(body) }),
      signal: AbortSignal.timeout(30_000),
    });
    const text = await response.text();
    const isJson = /\bjson/.test(response.headers.get("content-type") ?? "");
    return { status: response.status, headers: response.headers, body: isJson ? JSON.parse(text) : undefined, text };
  };
  return { token, send, get: (path, headers) => send("GET", path, undefined, headers) };
}

/** Logs in through the gateway. */
export async function logIn(platform: Platform, credentials = platform.admin): Promise<Client> {
  const answer = await clientOf(platform.gatewayUrl).send("POST", "/auth/login", credentials);
  if (answer.status !== 200) throw new Error(`login answered ${answer.status}: ${answer.text}`);
  return clientOf(platform.gatewayUrl, (answer.body as { token: string }).token);
}

export type PatientAnswer = {
  id: string;
  name: string;
  email?: string;
  address: Record<string, string>;
  dateOfBirth: string;
  billing: { status: "active" | "pending"; accountId?: string };
};

let people = 0;

/** A body for creating a patient, in the older form (address as text), with an unused e-mail address. */
export function person(): { name: string; email: string; address: string; dateOfBirth: string } {
  people += 1;
  return {
    name: `Ada Path ${people}`,
    email: `ada.path.${Date.now()}.${people}@example.com`,
    address: "12 Elm Street, Springfield",
    dateOfBirth: "1985-06-15",
  };
}

/** A patient with an address of their own, as FHIR has them. */
export const fhirPatient = (family: string, more: object = {}) => ({
  resourceType: "Patient",
  name: [{ family, given: ["Ada"] }],
  telecom: [{ system: "email", value: `${crypto.randomUUID()}@example.com` }],
  birthDate: "1985-12-10",
  address: [{ line: ["1 Main St"], city: "Springfield" }],
  ...more,
});

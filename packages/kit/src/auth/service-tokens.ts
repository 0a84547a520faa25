import { z } from "zod";
import { AppError } from "../errors.ts";

const answerSchema = z.object({ access_token: z.string(), expires_in: z.number() });

/**
 * Gets the access token by which this service calls others: by client credentials (RFC 6749, 4.4), kept until shortly
 * before it expires.
 */
export function createServiceTokens(options: { authUrl: string; clientId: string; clientSecret: string }): () => Promise<string> {
  let current: { token: Promise<string>; until: number } | undefined;

  async function fetchToken(): Promise<string> {
    const credentials = Buffer.from(`${options.clientId}:${encodeURIComponent(options.clientSecret)}`).toString("base64");
    const response = await fetch(`${options.authUrl}/auth/token`, {
      method: "POST",
      headers: { authorization: `Basic ${credentials}`, "content-type": "application/x-www-form-urlencoded" },
      body: "grant_type=client_credentials",
      signal: AbortSignal.timeout(3_000),
    });
    if (!response.ok)
      throw new AppError("unavailable", "Auth gave no service token.", { cause: new Error(`auth answered ${response.status}`) });
    const answer = answerSchema.parse(await response.json());
    current = { token: Promise.resolve(answer.access_token), until: Date.now() + (answer.expires_in - 30) * 1_000 };
    return answer.access_token;
  }

  return () => {
    if (current && Date.now() < current.until) return current.token;
    // Concurrent callers share one request. A failed request is not kept.
    const token = fetchToken();
    current = { token, until: Date.now() + 5_000 };
    token.catch(() => {
      current = undefined;
    });
    return token;
  };
}

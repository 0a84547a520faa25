/**
 * Who looks at the dashboard. A browser brings no bearer token, so the form's sign-in goes on to auth from here, and the
 * tokens come back in a cookie that only this service can open. Nothing is kept on the server: every replica can read it.
 */
import { createCipheriv, createDecipheriv, hkdfSync, randomBytes } from "node:crypto";
import { authorize, type Caller, type Verifier } from "@pm/kit/auth/verifier";
import { AppError } from "@pm/kit/errors";
import { z } from "zod";

export const cookieName = "pm_session";
export const cookiePath = "/analytics/dashboard";

const tokens = z.object({ token: z.string(), refreshToken: z.string(), expiresAt: z.number() });
type Tokens = z.infer<typeof tokens>;
const signedIn = z.object({ token: z.string(), refreshToken: z.string(), expiresIn: z.number() });

/** What auth must know of the person's request: it throttles by address. */
export type Origin = { address: string | undefined; userAgent: string | undefined; requestId: string };

export type Viewer = { caller: Caller /** The cookie to set, where it changed. */; cookie?: string };

export type DashboardSessions = {
  /** @returns the cookie's value. @throws AppError unauthenticated, resource_exhausted, unavailable, permission_denied without analytics:read. */
  signIn(credentials: { email: string; password: string; code?: string | undefined }, origin: Origin): Promise<string>;
  /** Whose cookie it is, refreshed where it runs out; undefined where it is none or no longer valid. @throws AppError permission_denied, unavailable. */
  viewer(cookie: string | undefined, origin: Origin): Promise<Viewer | undefined>;
  /** Ends the session in auth. A session that has ended already is none the worse for it. */
  signOut(cookie: string | undefined, origin: Origin): Promise<void>;
};

/** A token is refreshed when it has less than this to live, so that it does not die on the way. */
const refreshBeforeMs = 30_000;

export function createDashboardSessions(options: {
  authUrl: string;
  verifier: Verifier;
  /** Every replica has the same; the cookie's key is derived from it. */
  secret: string;
  now: () => number;
}): DashboardSessions {
  const { authUrl, verifier, secret, now } = options;
  const key = Buffer.from(hkdfSync("sha256", secret, "", "analytics dashboard cookie", 32));

  function seal(value: Tokens): string {
    const nonce = randomBytes(12);
    const cipher = createCipheriv("aes-256-gcm", key, nonce);
    const sealed = Buffer.concat([cipher.update(JSON.stringify(value), "utf8"), cipher.final()]);
    return Buffer.concat([nonce, cipher.getAuthTag(), sealed]).toString("base64url");
  }

  function open(cookie: string | undefined): Tokens | undefined {
    if (!cookie) return undefined;
    try {
      const bytes = Buffer.from(cookie, "base64url");
      const decipher = createDecipheriv("aes-256-gcm", key, bytes.subarray(0, 12), { authTagLength: 16 });
      decipher.setAuthTag(bytes.subarray(12, 28));
      const text = Buffer.concat([decipher.update(bytes.subarray(28)), decipher.final()]).toString("utf8");
      return tokens.parse(JSON.parse(text));
    } catch {
      // Somebody else's cookie, or one from before the secret changed.
      return undefined;
    }
  }

  async function post(path: string, body: object, origin: Origin, token?: string): Promise<Response> {
    try {
      return await fetch(`${authUrl}${path}`, {
        method: "POST",
        headers: {
          "content-type": "application/json",
          "x-request-id": origin.requestId,
          ...(origin.address && { "x-envoy-external-address": origin.address }),
          ...(origin.userAgent && { "user-agent": origin.userAgent }),
          ...(token && { authorization: `Bearer ${token}` }),
        },
        body: JSON.stringify(body),
        signal: AbortSignal.timeout(5_000),
      });
    } catch (cause) {
      throw new AppError("unavailable", "Signing in is not possible right now. Try again shortly.", { cause, retryAfterSeconds: 2 });
    }
  }

  async function take(response: Response): Promise<Tokens> {
    const { token, refreshToken, expiresIn } = signedIn.parse(await response.json());
    return { token, refreshToken, expiresAt: now() + expiresIn * 1_000 };
  }

  async function read(token: string): Promise<Caller> {
    const caller = await verifier.verify(`Bearer ${token}`);
    authorize(caller, "analytics:read");
    return caller;
  }

  return {
    async signIn({ email, password, code }, origin) {
      const response = await post("/auth/login", { email, password, ...(code && { code }) }, origin);
      if (response.status === 429) throw new AppError("resource_exhausted", "Too many attempts. Wait a little, then try again.");
      if (response.status >= 500) throw new AppError("unavailable", "Signing in is not possible right now. Try again shortly.");
      if (!response.ok) throw new AppError("unauthenticated", "The e-mail address, the password or the code is not right.");
      const fresh = await take(response);
      await read(fresh.token);
      return seal(fresh);
    },

    async viewer(cookie, origin) {
      const held = open(cookie);
      if (!held) return undefined;
      if (held.expiresAt - now() > refreshBeforeMs) {
        try {
          return { caller: await read(held.token) };
        } catch (error) {
          // Revoked, or signed by a key that is gone: auth decides whether there is another token.
          if (!(error instanceof AppError) || error.code !== "unauthenticated") throw error;
        }
      }
      const response = await post("/auth/refresh", { refreshToken: held.refreshToken }, origin);
      if (response.status >= 500 || response.status === 429)
        throw new AppError("unavailable", "The session cannot be renewed right now. Try again shortly.");
      if (!response.ok) return undefined;
      const fresh = await take(response);
      return { caller: await read(fresh.token), cookie: seal(fresh) };
    },

    async signOut(cookie, origin) {
      const held = open(cookie);
      if (held) await post("/auth/logout", {}, origin, held.token).catch(() => undefined);
    },
  };
}

/** The cookie as a header: not for scripts, not with other sites' posts, and only over TLS where the person came by TLS. */
export function cookieHeader(value: string, { secure, ended = false }: { secure: boolean; ended?: boolean }): string {
  const flags = [`Path=${cookiePath}`, "HttpOnly", "SameSite=Lax", ...(secure ? ["Secure"] : []), ...(ended ? ["Max-Age=0"] : [])];
  return [`${cookieName}=${value}`, ...flags].join("; ");
}

/**
 * Refuses a form that another site sent (cross-site request forgery). Every browser of the last years says where a post
 * comes from; one that does not is refused.
 * @throws AppError permission_denied.
 */
export function refuseForeignPost(headers: { fetchSite: string | undefined; origin: string | undefined; host: string | undefined }): void {
  const { fetchSite, origin, host } = headers;
  if (
    fetchSite !== undefined ? fetchSite === "same-origin" || fetchSite === "none" : origin !== undefined && URL.parse(origin)?.host === host
  )
    return;
  throw new AppError("permission_denied", "This form must be sent from the dashboard itself.");
}

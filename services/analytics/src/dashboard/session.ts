/**
 * Sessions of the dashboard. A browser sends no bearer token, so this service forwards the sign-in form to auth, and
 * keeps the tokens in an encrypted cookie. Nothing is stored on the server, so every replica can read the cookie.
 */
import { authorize, type Caller, type Verifier } from "@pm/kit/auth/verifier";
import { createEncryptor } from "@pm/kit/encryption";
import { AppError } from "@pm/kit/errors";
import { fetchTraced } from "@pm/kit/telemetry/calls";
import { z } from "zod";

/** By its prefix, browsers keep it for this host alone and never send it by plain HTTP (RFC 6265bis, 4.1.3.2). */
export const cookieName = "__Host-pm_session";

/** `actedAt` is when auth last learned that the person is there. */
const tokens = z.object({ token: z.string(), refreshToken: z.string(), expiresAt: z.number(), actedAt: z.number() });
type Tokens = z.infer<typeof tokens>;
const signedIn = z.object({ token: z.string(), refreshToken: z.string(), expiresIn: z.number() });

/** What auth must know about the person's request. It limits attempts by address. */
export type ClientRequest = {
  address: string | undefined;
  /** By which auth believes the address. It came with the request, so this service does not have to know it. */
  gatewaySecret: string | undefined;
  userAgent: string | undefined;
  requestId: string;
};

/** `cookie` is there if it changed and must be set. */
export type Viewer = { caller: Caller; cookie?: string };

export type DashboardSessions = {
  /**
   * Signs in, and returns the value of the cookie.
   * @throws AppError unauthenticated, resource_exhausted, unavailable, permission_denied without analytics:read
   */
  signIn(credentials: { email: string; password: string; code?: string | undefined }, request: ClientRequest): Promise<string>;
  /**
   * Finds out whose cookie it is, and refreshes the tokens if they are about to expire. Returns undefined if there is
   * no cookie or it is no longer valid.
   * @param cause whether the person has caused the request, or the page refreshes itself. A session lives as long as
   * its person acts.
   * @throws AppError permission_denied, unavailable
   */
  viewer(cookie: string | undefined, request: ClientRequest, cause: { isAct: boolean }): Promise<Viewer | undefined>;
  /**
   * Ends the session in auth. If it has ended already, nothing happens.
   * @throws AppError unavailable
   */
  signOut(cookie: string | undefined, request: ClientRequest): Promise<void>;
};

/** A token that expires sooner than this is refreshed, so that it does not expire while it is used. */
const refreshBeforeMs = 30_000;
/**
 * Auth learns that the person is there from a refresh. While the page renews the tokens, no act of the person would
 * come to one, so the first act after this time does.
 */
const reportActAfterMs = 60_000;

export function createDashboardSessions(options: {
  authUrl: string;
  verifier: Verifier;
  /** Every replica has the same. */
  secret: string;
  now: () => number;
}): DashboardSessions {
  const { authUrl, verifier, secret, now } = options;
  const encryptor = createEncryptor(secret, "analytics dashboard cookie");
  const toCookie = (value: Tokens) => encryptor.encrypt(JSON.stringify(value)).toString("base64url");

  function fromCookie(cookie: string | undefined): Tokens | undefined {
    if (!cookie) return undefined;
    try {
      return tokens.parse(JSON.parse(encryptor.decrypt(Buffer.from(cookie, "base64url"))));
    } catch {
      // A cookie of another service, or from before the secret changed.
      return undefined;
    }
  }

  async function post(path: string, body: object, request: ClientRequest): Promise<Response> {
    try {
      return await fetchTraced(path, `${authUrl}${path}`, {
        method: "POST",
        headers: {
          "content-type": "application/json",
          "x-request-id": request.requestId,
          ...(request.address && { "x-envoy-external-address": request.address }),
          ...(request.gatewaySecret && { "x-gateway-secret": request.gatewaySecret }),
          ...(request.userAgent && { "user-agent": request.userAgent }),
        },
        body: JSON.stringify(body),
        signal: AbortSignal.timeout(5_000),
      });
    } catch (cause) {
      throw new AppError("unavailable", "Signing in is not possible right now. Try again shortly.", { cause, retryAfterSeconds: 2 });
    }
  }

  async function tokensFrom(response: Response, actedAt: number): Promise<Tokens> {
    const { token, refreshToken, expiresIn } = signedIn.parse(await response.json());
    return { token, refreshToken, expiresAt: now() + expiresIn * 1_000, actedAt };
  }

  /**
   * The next tokens; undefined if the session has ended.
   * @throws AppError unavailable
   */
  async function renew({ refreshToken, actedAt }: Tokens, request: ClientRequest, isAct: boolean): Promise<Tokens | undefined> {
    const response = await post("/auth/refresh", { refreshToken, ...(!isAct && { background: true }) }, request);
    if (response.status >= 500 || response.status === 429)
      throw new AppError("unavailable", "The session cannot be renewed right now. Try again shortly.");
    return response.ok ? tokensFrom(response, isAct ? now() : actedAt) : undefined;
  }

  /** Ends the session by its refresh token, because its access token may have expired. */
  async function end({ refreshToken }: Tokens, request: ClientRequest): Promise<void> {
    const response = await post("/auth/logout", { refreshToken }, request);
    if (!response.ok) throw new AppError("unavailable", "Signing out is not possible right now. Try again shortly.");
  }

  async function callerOf(token: string): Promise<Caller> {
    const caller = await verifier.verify(`Bearer ${token}`);
    authorize(caller, "analytics:read");
    return caller;
  }

  return {
    async signIn({ email, password, code }, request) {
      const response = await post("/auth/login", { email, password, ...(code && { code }) }, request);
      if (response.status === 429) throw new AppError("resource_exhausted", "Too many attempts. Wait a little, then try again.");
      if (response.status >= 500) throw new AppError("unavailable", "Signing in is not possible right now. Try again shortly.");
      if (!response.ok) throw new AppError("unauthenticated", "The e-mail address, the password or the code is not right.");
      const fresh = await tokensFrom(response, now());
      try {
        await callerOf(fresh.token);
      } catch (error) {
        // A person without the scope keeps no session that nobody uses.
        await end(fresh, request);
        throw error;
      }
      return toCookie(fresh);
    },

    async viewer(cookie, request, { isAct }) {
      const held = fromCookie(cookie);
      if (!held) return undefined;
      const isFresh = held.expiresAt - now() > refreshBeforeMs;
      const isToReport = isAct && now() - held.actedAt > reportActAfterMs;
      // Undefined if the token was revoked or its signing key removed: auth decides whether the session gets another.
      const caller = isFresh ? await callerOf(held.token).catch(unlessUnauthenticated) : undefined;
      if (caller && !isToReport) return { caller };
      const fresh = await renew(held, request, isAct).catch((error: unknown) => {
        if (caller) return held;
        throw error;
      });
      if (fresh === held) return { caller: caller as Caller };
      return fresh && { caller: await callerOf(fresh.token), cookie: toCookie(fresh) };
    },

    async signOut(cookie, request) {
      const held = fromCookie(cookie);
      if (held) await end(held, request);
    },
  };
}

function unlessUnauthenticated(error: unknown): undefined {
  if (!(error instanceof AppError) || error.code !== "unauthenticated") throw error;
}

/** The cookie as a header: not for scripts, and not with posts of other sites. */
export function cookieHeader(value: string, { ended = false } = {}): string {
  return [`${cookieName}=${value}`, "Path=/", "Secure", "HttpOnly", "SameSite=Lax", ...(ended ? ["Max-Age=0"] : [])].join("; ");
}

/**
 * Refuses to sign in where a browser does not keep the cookie: by plain HTTP, except from this machine.
 * @param origin of the page with the form
 * @throws AppError permission_denied
 */
export function refuseLostCookie(origin: string | undefined): void {
  const { protocol, hostname } = (origin !== undefined && URL.parse(origin)) || { protocol: "https:", hostname: "" };
  if (protocol !== "http:" || /^(.*\.)?localhost$|^127(\.\d+){3}$|^\[::1\]$/.test(hostname)) return;
  throw new AppError("permission_denied", "Open the dashboard by HTTPS or at localhost: browsers keep its session nowhere else.");
}

/**
 * Refuses a form that another site sent (cross-site request forgery). Every current browser says where a post comes
 * from; a post that does not say it is refused.
 * @throws AppError permission_denied
 */
export function refuseForeignPost(headers: { fetchSite: string | undefined; origin: string | undefined; host: string | undefined }): void {
  const { fetchSite, origin, host } = headers;
  const isOwn =
    fetchSite !== undefined
      ? fetchSite === "same-origin" || fetchSite === "none"
      : origin !== undefined && URL.parse(origin)?.host === host;
  if (!isOwn) throw new AppError("permission_denied", "This form must be sent from the dashboard itself.");
}

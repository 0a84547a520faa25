/** Calls to the services behind this one, as the caller: with their token, in their trace and under their request id. */
import { AppError } from "@pm/kit/errors";
import type { RestContext } from "@pm/kit/http/rest";
import { fetchTraced } from "@pm/kit/telemetry/calls";
import { fromProblem } from "./outcome.ts";

/** What identifies the caller and their request to another service. */
export type Call = { authorization: string; requestId: string };

export const callOf = (c: RestContext): Call => ({ authorization: c.req.header("authorization") ?? "", requestId: c.get("requestId") });

type Request = { method?: string; query?: URLSearchParams; headers?: Record<string, string>; body?: unknown };

/** @param route the template of the path, for traces */
export type Ask = (call: Call, route: string, path: string, request?: Request) => Promise<Response>;

/** The gateway waits for 15 seconds. */
const timeoutMs = 14_000;

/** @returns a function that throws every answer but 2xx and 304 as the AppError that the service meant */
export function createInner(baseUrl: string): Ask {
  return async ({ authorization, requestId }, route, path, { method = "GET", query, headers, body } = {}) => {
    const search = query && query.size > 0 ? `?${query}` : "";
    const response = await fetchTraced(route, `${baseUrl}${path}${search}`, {
      method,
      headers: { authorization, "x-request-id": requestId, ...(body !== undefined && { "content-type": "application/json" }), ...headers },
      ...(body !== undefined && { body: JSON.stringify(body) }),
      signal: AbortSignal.timeout(timeoutMs),
    }).catch((cause: unknown) => {
      throw new AppError("unavailable", "A service behind this one did not answer. Try again shortly.", { cause, retryAfterSeconds: 1 });
    });
    if (response.ok || response.status === 304) return response;
    throw await fromProblem(response);
  };
}

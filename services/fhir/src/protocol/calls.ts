/**
 * Calls to the services behind this one, as the caller: with their token, in their trace and under their request id.
 */
import { AppError } from "@pm/kit/errors";
import type { RestContext } from "@pm/kit/http/rest";
import { type CallInit, fetchTraced } from "@pm/kit/telemetry/calls";
import { type Dispatcher, Pool } from "undici";
import { fromProblem } from "./outcome.ts";

/** What identifies the caller and their request to another service. */
export type Call = { authorization: string; requestId: string };

export const callOf = (c: RestContext): Call => ({ authorization: c.req.header("authorization") ?? "", requestId: c.get("requestId") });

type Request = { method?: string; query?: URLSearchParams; headers?: Record<string, string>; body?: unknown; signal?: AbortSignal };

/** @param route the template of the path, for traces; a request with a signal is streamed and may take any time */
export type Ask = (call: Call, route: string, path: string, request?: Request) => Promise<Response>;

/** The gateway waits for 15 seconds. */
export const timeoutMs = 14_000;

/** Sends as `fetch` does, at a third of its cost, and reads the answer as a whole. */
function createSend(baseUrl: string) {
  const pool = new Pool(baseUrl, { connections: 128, headersTimeout: timeoutMs, bodyTimeout: timeoutMs });
  return async (url: string, { method = "GET", headers = {}, body }: CallInit): Promise<Response> => {
    const path = url.slice(baseUrl.length);
    const answer = await pool.request({
      path,
      method: method as Dispatcher.HttpMethod,
      headers,
      body: (body as string | undefined) ?? null,
    });
    const text = await answer.body.text();
    const fields = Object.entries(answer.headers).map(([name, value = ""]): [string, string] => [name, String(value)]);
    return new Response(text === "" ? null : text, { status: answer.statusCode, headers: fields });
  };
}

/** @returns a function that throws every answer but 2xx and 304 as the AppError that the service meant */
export function createAsk(baseUrl: string): Ask {
  const send = createSend(baseUrl);
  return async ({ authorization, requestId }, route, path, { method = "GET", query, headers, body, signal } = {}) => {
    const search = query && query.size > 0 ? `?${query}` : "";
    const init = {
      method,
      headers: { authorization, "x-request-id": requestId, ...(body !== undefined && { "content-type": "application/json" }), ...headers },
      ...(body !== undefined && { body: JSON.stringify(body) }),
      ...(signal && { signal }),
    };
    const response = await fetchTraced(route, `${baseUrl}${path}${search}`, init, signal ? fetch : send).catch((cause: unknown) => {
      throw new AppError("unavailable", "A service behind this one did not answer. Try again shortly.", { cause, retryAfterSeconds: 1 });
    });
    if (response.ok || response.status === 304) return response;
    throw await fromProblem(response, route);
  };
}

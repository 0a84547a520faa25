/**
 * Calls to the services behind this one, as the caller: with their token, in their trace and under their request id.
 */
import { AppError } from "@pm/kit/errors";
import type { RestContext } from "@pm/kit/http/rest";
import { type CallInit, callTraced } from "@pm/kit/telemetry/calls";
import { type Dispatcher, Pool } from "undici";
import { type Answer, fromProblem } from "./outcome.ts";

/** What identifies the caller and their request to another service. */
export type Call = { authorization: string; requestId: string };

export const callOf = (c: RestContext): Call => ({ authorization: c.req.header("authorization") ?? "", requestId: c.get("requestId") });

type Request = { method?: string; query?: URLSearchParams; headers?: Record<string, string>; body?: unknown };

/** @param route the template of the path, for traces. @returns the body of the answer, undefined if it has none */
export type Ask = (call: Call, route: string, path: string, request?: Request) => Promise<unknown>;

/** Asks for a body that is read as it comes, and may take any time. */
export type AskStream = (call: Call, route: string, path: string, signal: AbortSignal) => Promise<ReadableStream<Uint8Array>>;

/** The gateway waits for 15 seconds. */
export const timeoutMs = 14_000;

const isGood = ({ status }: { status: number }): boolean => status >= 200 && status < 300;

function unavailable(cause: unknown): never {
  throw new AppError("unavailable", "A service behind this one did not answer. Try again shortly.", { cause, retryAfterSeconds: 1 });
}

/** Sends by the lowest interface of undici: its streams, and `fetch`, would cost more than most answers. */
function createSend(baseUrl: string) {
  const pool = new Pool(baseUrl, { connections: 128, headersTimeout: timeoutMs, bodyTimeout: timeoutMs });
  return (url: string, { method = "GET", headers = {}, body }: CallInit): Promise<Answer> =>
    new Promise((resolve, reject) => {
      const chunks: Buffer[] = [];
      let head: Pick<Answer, "status" | "headers"> = { status: 0, headers: {} };
      const options: Dispatcher.DispatchOptions = {
        path: url.slice(baseUrl.length),
        method: method as Dispatcher.HttpMethod,
        headers,
        body: (body as string | undefined) ?? null,
      };
      pool.dispatch(options, {
        onRequestStart() {},
        onResponseStart(_, status, received) {
          head = { status, headers: received };
        },
        onResponseData(_, chunk) {
          chunks.push(chunk);
        },
        onResponseEnd: () => resolve({ ...head, text: Buffer.concat(chunks).toString() }),
        onResponseError: (_, error) => reject(error),
      });
    });
}

/** @returns a function that throws every answer but 2xx as the AppError that the service meant */
export function createAsk(baseUrl: string): Ask {
  const send = createSend(baseUrl);
  return async ({ authorization, requestId }, route, path, { method = "GET", query, headers, body } = {}) => {
    const search = query && query.size > 0 ? `?${query}` : "";
    const init = {
      method,
      headers: { authorization, "x-request-id": requestId, ...(body !== undefined && { "content-type": "application/json" }), ...headers },
      ...(body !== undefined && { body: JSON.stringify(body) }),
    };
    const answer = await callTraced(route, `${baseUrl}${path}${search}`, init, send).catch(unavailable);
    if (!isGood(answer)) throw fromProblem(answer, route);
    return answer.text === "" ? undefined : JSON.parse(answer.text);
  };
}

/** @returns a function that throws every answer but 2xx as the AppError that the service meant */
export function createAskStream(baseUrl: string): AskStream {
  return async ({ authorization, requestId }, route, path, signal) => {
    const init = { headers: { authorization, "x-request-id": requestId }, signal };
    const answer = await callTraced(route, `${baseUrl}${path}`, init, fetch).catch(unavailable);
    const { status, headers, body } = answer;
    if (!isGood(answer)) throw fromProblem({ status, headers: Object.fromEntries(headers), text: await answer.text() }, route);
    return body ?? new ReadableStream();
  };
}

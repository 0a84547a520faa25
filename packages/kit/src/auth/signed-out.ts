/**
 * Calls that may go on for longer than a token (imports, exports, watches) end when the session ends of whoever makes them.
 * Each gets a signal that aborts then, with the refusal as its reason; that the token expires does not abort it.
 */
import type { HttpBindings } from "@hono/node-server";
import type { AppError } from "../errors.ts";
import type { Caller, Verifier } from "./verifier.ts";

type Calling = { verifier: Verifier; callers: (Caller | undefined)[] };

function follow({ verifier, callers }: Calling, signedOut: (refusal: AppError) => void): () => void {
  const stops = callers.map((caller) => caller && verifier.onRevoked(caller, signedOut));
  return () => {
    for (const stop of stops) stop?.();
  };
}

/**
 * For as long as an answer over HTTP takes. One that has begun is cut off, also where nobody reads it. Where a test asks the
 * app without a server there is no `outgoing`.
 */
export function signedOutWhileAnswering(calling: Calling, env: unknown): AbortSignal {
  const answer = (env as Partial<HttpBindings> | undefined)?.outgoing;
  const controller = new AbortController();
  const stop = follow(calling, (refusal) => {
    if (answer?.headersSent) answer.destroy();
    controller.abort(refusal);
  });
  if (answer?.destroyed) stop();
  else answer?.once("close", stop);
  return controller.signal;
}

/** Until `over` aborts, as the signal of every RPC does in the end. */
export function signedOutUntil(calling: Calling, over: AbortSignal): AbortSignal {
  const controller = new AbortController();
  const stop = follow(calling, (refusal) => controller.abort(refusal));
  if (over.aborted) stop();
  else over.addEventListener("abort", stop, { once: true });
  return controller.signal;
}

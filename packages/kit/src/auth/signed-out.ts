/**
 * Calls that may outlive their token (imports, exports, watches) end when their caller's session ends. Each gets a
 * signal that aborts then, with the error for the caller as its reason. A token that expires does not abort it.
 */
import { setImmediate as nextTurn } from "node:timers/promises";
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

/** A REST request whose body or answer is a stream. */
export type Streaming = {
  /** Aborts with the error for the caller when their session ends, or when `end` is called. */
  signal: AbortSignal;
  /** Ends the request with an error. An answer that has begun is cut off, even if nobody reads it. */
  end(error: AppError): void;
  /**
   * Cuts the answer off, also if it has not begun.
   * @throws the error if there is no server
   */
  cutOff(error: unknown): Promise<void>;
  /** Calls back when the answer is complete or the client has gone, or immediately if that has happened. */
  onClose(callback: () => void): void;
};

/**
 * Follows the callers until an HTTP answer is complete. A test that calls the app without a server has no `outgoing`.
 */
export function streamUntilSignedOut(calling: Calling, env: unknown): Streaming {
  const answer = (env as Partial<HttpBindings> | undefined)?.outgoing;
  const controller = new AbortController();
  // An answer by HTTP/2 has no property that says so.
  let isOver = answer?.destroyed ?? false;
  answer?.once("close", () => {
    isOver = true;
  });
  const streaming: Streaming = {
    signal: controller.signal,
    end(error) {
      if (answer?.headersSent) answer.destroy();
      controller.abort(error);
    },
    async cutOff(error) {
      if (!answer) throw error;
      // The server sends the headers as soon as no piece comes at once. It would print an error without our log's care
      // for its words.
      while (!answer.headersSent && !isOver) await nextTurn();
      answer.destroy();
    },
    onClose(callback) {
      if (isOver) callback();
      else answer?.once("close", callback);
    },
  };
  streaming.onClose(follow(calling, streaming.end));
  return streaming;
}

/** Follows the callers until `over` aborts, as the signal of every RPC does in the end. */
export function signedOutUntil(calling: Calling, over: AbortSignal): AbortSignal {
  const controller = new AbortController();
  const stop = follow(calling, (refusal) => controller.abort(refusal));
  if (over.aborted) stop();
  else over.addEventListener("abort", stop, { once: true });
  return controller.signal;
}

/** Answers that are made piece by piece. */
import { AsyncLocalStorage } from "node:async_hooks";
import { toAppError } from "../errors.ts";
import { activeSpan } from "../telemetry/active.ts";
import type { RestContext } from "./rest.ts";

/**
 * The body of an operation that streams. It asks for a piece when the reader has taken the one before, and ends with
 * the caller's session. If it fails, the answer is cut off, so that nobody takes a part of it for the whole.
 * @param ended called when the pieces end, however they do
 */
export function textStream(
  c: RestContext,
  pieces: AsyncIterable<string>,
  ended: () => Promise<void> = async () => undefined,
): ReadableStream<Uint8Array> {
  const { signal, cutOff } = c.get("streaming");
  // The server asks for pieces outside of the request's trace; the statements behind them belong to it.
  const inRequest = AsyncLocalStorage.snapshot();
  async function* allowed(): AsyncGenerator<Uint8Array, void, void> {
    const iterator = pieces[Symbol.asyncIterator]();
    try {
      for (;;) {
        const next = await inRequest(() => iterator.next());
        if (next.done) return;
        signal.throwIfAborted();
        yield Buffer.from(next.value);
      }
    } catch (error) {
      inRequest(() => reportFailure(c, signal.reason ?? error));
      await cutOff(error);
    } finally {
      await inRequest(() => iterator.return?.());
      await inRequest(ended);
    }
  }
  signal.throwIfAborted();
  const bytes = allowed();
  // The stream asks for its first piece at once. A client may leave before it reads any, and only a generator that has
  // begun runs its `finally` when it is ended.
  return new ReadableStream<Uint8Array>({
    async pull(controller) {
      const { done, value } = await bytes.next();
      if (done) controller.close();
      else controller.enqueue(value);
    },
    async cancel() {
      await bytes.return();
    },
  });
}

/** The status of the answer was sent before it failed, so only the log and the span say that it did. */
function reportFailure(c: RestContext, error: unknown): void {
  const appError = toAppError(error);
  if (!appError.isFailure) return;
  activeSpan()?.recordException(error as Error);
  c.get("log").error({ err: appError, requestId: c.get("requestId"), operation: c.get("operation") }, "the answer was cut off");
}

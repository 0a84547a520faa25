/** Answers that are made piece by piece. */
import { AsyncLocalStorage } from "node:async_hooks";

/**
 * A stream that asks for a piece when the reader has taken the one before. It fails when the signal aborts.
 * @param ended called when the pieces end, however they do
 */
export function textStream(
  pieces: AsyncIterable<string>,
  signal: AbortSignal,
  ended: () => Promise<void> = async () => undefined,
): ReadableStream<Uint8Array> {
  // The server asks for pieces outside of the request's trace; the statements behind them belong to it.
  const inRequest = AsyncLocalStorage.snapshot();
  async function* allowed() {
    const iterator = pieces[Symbol.asyncIterator]();
    try {
      for (;;) {
        const next = await inRequest(() => iterator.next());
        if (next.done) return;
        signal.throwIfAborted();
        yield next.value;
      }
    } finally {
      await inRequest(() => iterator.return?.());
      await inRequest(ended);
    }
  }
  signal.throwIfAborted();
  return ReadableStream.from(allowed()).pipeThrough(new TextEncoderStream());
}

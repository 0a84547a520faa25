/** Answers that are made piece by piece. */

/**
 * A stream that asks for a piece when the reader has taken the one before. It fails when the signal aborts.
 * @param ended called when the pieces end, however they do
 */
export function textStream(
  pieces: AsyncIterable<string>,
  signal: AbortSignal,
  ended: () => Promise<void> = async () => undefined,
): ReadableStream<Uint8Array> {
  async function* allowed() {
    try {
      for await (const piece of pieces) {
        signal.throwIfAborted();
        yield piece;
      }
    } finally {
      await ended();
    }
  }
  signal.throwIfAborted();
  return ReadableStream.from(allowed()).pipeThrough(new TextEncoderStream());
}

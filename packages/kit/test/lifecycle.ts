import type { Lifecycle } from "../src/lifecycle.ts";

/** A lifecycle that ends when the test says so, and leaves the process alone. */
export function testLifecycle(): Lifecycle {
  const closers: (() => unknown)[] = [];
  return {
    onClose: (_name, close) => void closers.push(close),
    onReady: () => undefined,
    notReady: async () => [],
    async shutdown() {
      for (const close of closers.splice(0).reverse()) await close();
    },
  };
}

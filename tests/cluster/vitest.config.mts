import { defineConfig } from "vitest/config";

/** `npm run test:cluster`: the chart on the cluster at KUBECONFIG. One file, in order, and no further after a failure. */
export default defineConfig({
  test: {
    include: ["tests/cluster/*.cluster.test.ts"],
    fileParallelism: false,
    testTimeout: 600_000,
    hookTimeout: 600_000,
    bail: 1,
    reporters: ["verbose", "./tests/reporter.ts"],
  },
});

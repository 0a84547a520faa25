import { fileURLToPath } from "node:url";
import { defineConfig } from "vitest/config";

/** `npm run test:cluster`: tests the chart on the cluster at KUBECONFIG, in order, and stops at the first failure. */
export default defineConfig({
  test: {
    include: ["tests/cluster/*.cluster.test.ts"],
    fileParallelism: false,
    testTimeout: 600_000,
    hookTimeout: 600_000,
    bail: 1,
    reporters: ["verbose", fileURLToPath(new URL("../reporter.ts", import.meta.url))],
  },
});

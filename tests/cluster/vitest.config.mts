import { fileURLToPath } from "node:url";
import { defineConfig } from "vitest/config";

/** `npm run test:cluster`: tests the chart on the cluster at KUBECONFIG, in order, and stops at the first failure. */
export default defineConfig({
  test: {
    include: ["tests/cluster/*.cluster.test.ts"],
    fileParallelism: false,
    // Every wait inside has a deadline of its own. This one only ends a step that hangs: two cores that others use too need
    // more than ten minutes for the end-to-end suite.
    testTimeout: 1_800_000,
    hookTimeout: 600_000,
    bail: 1,
    reporters: ["verbose", fileURLToPath(new URL("../reporter.ts", import.meta.url))],
  },
});

import { fileURLToPath } from "node:url";
import { defineConfig } from "vitest/config";

/**
 * The end-to-end suite as it is, against the release in the namespace that CLUSTER_NAMESPACE names: what starts a platform on
 * this machine elsewhere finds the one in the cluster here. Freezing a process (SIGSTOP) is left out: nobody outside a
 * container may stop its first process.
 */
export default defineConfig({
  resolve: { alias: { "@pm/stack/platform": fileURLToPath(new URL("./platform.ts", import.meta.url)) } },
  test: {
    include: ["tests/e2e/*.e2e.test.ts"],
    testNamePattern: /^(?!.*frozen)/,
    fileParallelism: false,
    testTimeout: 180_000,
    hookTimeout: 300_000,
    reporters: ["default", "./tests/reporter.ts"],
  },
});

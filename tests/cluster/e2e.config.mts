import { fileURLToPath } from "node:url";
import { defineConfig } from "vitest/config";

/** Each needs a platform of its own: with other settings, with a mail server, or without the patients of other tests. */
const alone = ["absent-email", "audit", "auditor", "clinic-zone", "erasure", "fhir-export", "fhir-money", "fhir-trails", "merging"];

/**
 * Runs the end-to-end suite against the release in the namespace CLUSTER_NAMESPACE. The alias replaces the platform of
 * this machine by the one in the cluster. Tests that freeze a process (SIGSTOP) are left out, because nobody outside a
 * container can stop its first process.
 */
export default defineConfig({
  resolve: { alias: { "@pm/stack/platform": fileURLToPath(new URL("./platform.ts", import.meta.url)) } },
  test: {
    include: ["tests/e2e/*.e2e.test.ts"],
    exclude: alone.map((name) => `tests/e2e/${name}.e2e.test.ts`),
    testNamePattern: /^(?!.*frozen)/,
    fileParallelism: false,
    testTimeout: 180_000,
    hookTimeout: 300_000,
    reporters: ["default", fileURLToPath(new URL("../reporter.ts", import.meta.url))],
  },
});

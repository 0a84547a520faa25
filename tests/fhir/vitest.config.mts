import { fileURLToPath } from "node:url";
import { defineConfig } from "vitest/config";

/** `npm run test:fhir`: programs by others judge the FHIR service. */
export default defineConfig({
  test: {
    include: ["tests/fhir/*.judge.test.ts"],
    pool: "forks",
    testTimeout: 300_000,
    hookTimeout: 300_000,
    reporters: ["verbose", fileURLToPath(new URL("../reporter.ts", import.meta.url))],
  },
});

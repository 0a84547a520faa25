import { defineConfig } from "vitest/config";

const everywhere = ["packages", "services", "tests", "infrastructure"];
const files = (kind: string) => everywhere.map((folder) => `${folder}/**/*.${kind}.ts`);
const charts = "tests/charts/*.test.ts";
const real = { globalSetup: ["packages/stack/src/testing.ts"], testTimeout: 60_000, hookTimeout: 300_000 };

/**
 * Three kinds of tests by the end of their names, and those of the chart, which once build the programs that they need.
 * `npm test` runs all, `npm test -- --project unit` one.
 */
export default defineConfig({
  test: {
    pool: "forks",
    maxWorkers: 2,
    reporters: ["default", "./tests/reporter.ts"],
    projects: [
      {
        extends: true,
        test: {
          name: "unit",
          // Property tests take a second on a quiet machine and ten on a busy one.
          testTimeout: 30_000,
          include: files("test"),
          exclude: [...files("int.test"), ...files("e2e.test"), ...files("cluster.test"), charts, "**/node_modules/**"],
          sequence: { groupOrder: 0 },
        },
      },
      { extends: true, test: { name: "charts", include: [charts], sequence: { groupOrder: 1 } } },
      {
        extends: true,
        test: { ...real, name: "integration", include: files("int.test"), exclude: ["**/node_modules/**"], sequence: { groupOrder: 2 } },
      },
      // One at a time: each starts the whole platform, and what it measures or kills is its own.
      {
        extends: true,
        test: {
          ...real,
          name: "e2e",
          include: files("e2e.test"),
          exclude: ["**/node_modules/**"],
          fileParallelism: false,
          maxWorkers: 1,
          sequence: { groupOrder: 3 },
        },
      },
    ],
  },
});

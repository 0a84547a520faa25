/** `npm run check`: everything that CI runs, in order; with `-- --judges`, as CI does, also `npm run check:judges`. */
import { runSteps, type Step } from "./steps.ts";

const steps: Step[] = [
  {
    name: "generated files are what their sources give",
    command: "npm run -s generate && git diff --exit-code --stat -- proto/gen charts/patient-management/files",
  },
  { name: "format and lint", command: "biome ci --colors=off --error-on-warnings" },
  { name: "types", command: "tsc --noEmit" },
  { name: "unused files, exports and dependencies", command: "knip" },
  {
    name: "OpenAPI lint",
    // At a terminal it would look on the network for a newer version of itself.
    command: "REDOCLY_SUPPRESS_UPDATE_NOTICE=true redocly lint --config tests/openapi/redocly.yaml services/*/openapi.json",
  },
  { name: "unit tests", command: "vitest run --project unit" },
  { name: "chart tests", command: "vitest run --project charts" },
  { name: "integration tests", command: "vitest run --project integration" },
  { name: "end-to-end tests", command: "vitest run --project e2e" },
  { name: "buf lint", command: "buf lint" },
  { name: "buf breaking", command: "proto/breaking.sh" },
];
const notRun = ["tests/cluster: npm run test:cluster runs it, on the cluster at KUBECONFIG"];

if (process.argv.includes("--judges")) steps.push({ name: "judges", command: "npm run -s check:judges" });
else notRun.push("judges: npm run check:judges runs them");
await runSteps(steps, { notRun });

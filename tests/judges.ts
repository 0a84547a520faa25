/**
 * `npm run check:judges`: programs by others judge what we promise. All together they take at most JUDGES_MINUTES (15).
 * A judge that cannot be had here, or does not end in time, is skipped, and never counts as passed.
 */
import { builtCollector } from "@pm/stack/programs/collector";
import { installPrometheus } from "@pm/stack/programs/prometheus";
import { installCurrencyList } from "./currencies/iso4217.ts";
import { installHapi } from "./fhir/hapi.ts";
import { installSchemathesis } from "./fuzz/schemathesis.ts";
import { installEmulator } from "./infrastructure/emulator.ts";
import { installLinters } from "./infrastructure/linters.ts";
import { installFebrl } from "./matching/febrl.ts";
import { installAuthlib } from "./oauth/authlib.ts";
import { installGenerator } from "./openapi/generator.ts";
import { runSteps, type Step } from "./steps.ts";

const minutes = Number(process.env.JUDGES_MINUTES ?? 15);
if (!(minutes > 0)) throw new Error(`JUDGES_MINUTES is a number of minutes, such as 15, and not "${process.env.JUDGES_MINUTES}"`);

const say = (line: string) => void process.stdout.write(`${line}\n`);
/** Installs a judge; says why where it cannot be had. */
const needs = (install: () => Promise<unknown>) => () =>
  install().then(
    () => undefined,
    (error: Error) => error.message,
  );

const judges: Step[] = [
  {
    name: "iso4217: our currencies and their digits are those of the standard",
    command: "node tests/currencies/iso4217.ts",
    missing: needs(() => installCurrencyList(say)),
  },
  {
    name: "promtool: the rules are valid, and every alert fires when it has to and not otherwise",
    command: "node tests/monitoring/rules.ts",
    missing: needs(() => installPrometheus(say)),
  },
  {
    name: "OpenTelemetry's collector: of all traces it keeps errors, slow ones and one in a hundred, each whole",
    command: "node tests/traces/sampling.ts",
    missing: needs(async () => builtCollector()),
  },
  {
    name: "openapi-generator: its clients in Java and TypeScript compile",
    command: "node tests/openapi/clients.ts",
    missing: needs(() => installGenerator(say)),
  },
  {
    name: "cfn-lint and checkov: the stacks for AWS have nothing but written exceptions",
    command: "node tests/infrastructure/linters.ts",
    missing: needs(() => installLinters(say)),
  },
  {
    name: "ministack: an emulator of AWS makes, updates and deletes the stacks, as far as it has their types",
    command: "node tests/infrastructure/emulator.ts",
    missing: needs(() => installEmulator(say)),
  },
  // It skips each language whose tools are missing.
  { name: "gRPC in Python, Go and Java: clients from proto/ compile, and call billing", command: "node tests/clients/judge.ts" },
  {
    name: "schemathesis and fast-check: every service does what its document or its proto says",
    command: "FUZZ_MINUTES=5 node tests/fuzz/fuzz.ts",
    missing: needs(() => installSchemathesis(say)),
  },
  {
    name: "febrl and Splink: records of one person are found, by weights that learnt from other records",
    command: "node tests/matching/matching.ts",
    missing: needs(() => installFebrl(say)),
  },
  {
    name: "authlib and PyJWT: they get tokens at the gateway, and accept them",
    command: "node tests/oauth/python.ts",
    missing: needs(() => installAuthlib(say)),
  },
  // It skips smart-fetch alone where that cannot be had.
  {
    name: "HAPI FHIR, Medplum, smart-fetch and fhir-kit-client: they use and validate the FHIR API",
    command: "vitest run --config tests/fhir/vitest.config.mts",
    missing: needs(() => installHapi(say)),
  },
];

say(`The judges have ${minutes} minutes together.`);
await runSteps(judges, { minutes });

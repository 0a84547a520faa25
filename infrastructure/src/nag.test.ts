import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { App, Validations } from "aws-cdk-lib";
import { AwsSolutionsChecks, HIPAASecurityChecks } from "cdk-nag";
import { expect, onTestFinished, test } from "vitest";
import { addStacks } from "./app.ts";
import { exceptions } from "./exceptions.ts";
import { readSettings } from "./settings.ts";

type Violation = { ruleName: string; violatingConstructs: { constructPath: string }[] };
type Report = { pluginReports: { pluginName: string; violations: Violation[] }[] };

test("cdk-nag's packs AwsSolutions and HIPAA find nothing but the written exceptions, and find each of those", { timeout: 120_000 }, () => {
  const outdir = mkdtempSync(join(tmpdir(), "pm-nag-"));
  onTestFinished(() => rmSync(outdir, { recursive: true }));
  const app = new App({ outdir });
  addStacks(app, { ...readSettings(`${import.meta.dirname}/../settings.example.json`), kafka: "msk" });
  Validations.of(app).addPlugins(new AwsSolutionsChecks(app), new HIPAASecurityChecks(app));
  // It throws if there is any finding, and writes them to the report first.
  expect(() => app.synth()).toThrow();
  const { pluginReports } = JSON.parse(readFileSync(join(outdir, "validation-report.json"), "utf8")) as Report;
  const packs = pluginReports.filter(({ pluginName }) => /^(AwsSolutions|HIPAA)/.test(pluginName));
  expect(packs).toHaveLength(2);
  const findings = packs.flatMap(({ violations }) =>
    violations.flatMap(({ ruleName, violatingConstructs }) =>
      violatingConstructs.map(({ constructPath }) => ({ rule: ruleName.replace(/\[.*/, ""), path: constructPath })),
    ),
  );
  const known = exceptions["cdk-nag"];
  expect(findings.filter(({ rule, path }) => !known.some((each) => each.rule === rule && each.at.test(path)))).toEqual([]);
  expect(known.filter((each) => !findings.some(({ rule, path }) => each.rule === rule && each.at.test(path)))).toEqual([]);
});

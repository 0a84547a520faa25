/**
 * Synthesizes the stacks of infrastructure/ and lets cfn-lint and checkov judge the templates. Exits with 1 if one of
 * them finds what infrastructure/src/exceptions.ts does not list, or no longer finds what it lists.
 */
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { basename, join, resolve } from "node:path";
import type { Progress } from "@pm/stack/programs/cache";
import { run } from "@pm/stack/programs/child";
import { installPythonPackages } from "@pm/stack/programs/python";
import { exceptions } from "../../infrastructure/src/exceptions.ts";

type Linter = keyof typeof exceptions;
type Finding = { linter: Linter; rule: string; at: string; message: string };

const say = (line: string) => void process.stdout.write(`${line}\n`);

/** Installs both. Returns their virtual environment. @throws Error with the reason if it cannot. */
export function installLinters(progress: Progress): Promise<string> {
  return installPythonPackages(["cfn-lint==1.58.0", "checkov==3.3.30"], progress);
}

async function lint(python: string, templates: string[]): Promise<Finding[]> {
  type Match = { Rule: { Id: string }; Filename: string; Location: { Path: string[] | null }; Message: string };
  const printed = await run(python, ["-m", "cfnlint.runner.cli", "--non-zero-exit-code", "none", "--format", "json", "--", ...templates]);
  return (JSON.parse(printed || "[]") as Match[]).map(({ Rule, Filename, Location, Message }) => ({
    linter: "cfn-lint",
    rule: Rule.Id,
    at: `${basename(Filename, ".template.json")}/${Location.Path?.[1] ?? ""}`,
    message: Message,
  }));
}

async function check(python: string, templates: string[]): Promise<Finding[]> {
  type Check = { check_id: string; check_name: string; resource: string; file_path: string };
  const files = templates.flatMap((template) => ["--file", template]);
  const options = "--framework cloudformation --skip-download --soft-fail --quiet --compact --output json".split(" ");
  const { results, summary } = JSON.parse(await run(python, ["-m", "checkov.main", ...options, ...files])) as {
    results: { failed_checks: Check[] };
    summary: { passed: number; parsing_errors: number };
  };
  if (summary.passed === 0 || summary.parsing_errors > 0) throw new Error("checkov cannot read the templates");
  return results.failed_checks.map(({ check_id, check_name, resource, file_path }) => ({
    linter: "checkov",
    rule: check_id,
    at: `${basename(file_path, ".template.json")}/${resource.split(".").at(-1)}`,
    message: check_name,
  }));
}

async function main(): Promise<void> {
  // Not by their scripts: those name the folder in which they were installed first.
  const python = join(await installLinters(say), "bin", "python");
  const folder = mkdtempSync(join(tmpdir(), "pm-templates-"));
  try {
    const infrastructure = resolve(import.meta.dirname, "../../infrastructure");
    // With everything that a setting may add.
    const settings = join(folder, "settings.json");
    writeFileSync(
      settings,
      JSON.stringify({ ...JSON.parse(readFileSync(join(infrastructure, "settings.example.json"), "utf8")), kafka: "msk" }),
    );
    await run(process.execPath, [join(infrastructure, "src/app.ts")], {
      env: { CDK_OUTDIR: folder, CDK_CONTEXT_JSON: JSON.stringify({ settings }) },
    });
    const templates = readdirSync(folder).flatMap((name) => (name.endsWith(".template.json") ? [join(folder, name)] : []));
    const findings = [...(await lint(python, templates)), ...(await check(python, templates))];
    const fits = (linter: Linter, each: Finding, { rule, at }: { rule: string; at: RegExp }) =>
      each.linter === linter && each.rule === rule && at.test(each.at);
    const unknown = findings.filter((each) => !exceptions[each.linter].some((exception) => fits(each.linter, each, exception)));
    const stale = (["cfn-lint", "checkov"] as const).flatMap((linter) =>
      exceptions[linter].filter((exception) => !findings.some((each) => fits(linter, each, exception))),
    );
    for (const { linter, rule, at, message } of unknown) say(`${linter} ${rule} at ${at}: ${message}`);
    for (const { rule, at } of stale) say(`${rule} at ${at} is an exception, but nothing finds it any more: remove it`);
    say(`${templates.length} templates, ${findings.length} findings, ${unknown.length} of them without a written exception.`);
    process.exitCode = templates.length > 0 && unknown.length + stale.length === 0 ? 0 : 1;
  } finally {
    rmSync(folder, { recursive: true });
  }
}

if (import.meta.main) await main();

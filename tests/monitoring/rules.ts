/**
 * Lets promtool check the rules and the tests of alert-cases.ts: each alert fires at one set of samples, and does not
 * at another. Exits with 1 if one does otherwise.
 */
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { chartFiles } from "@pm/monitoring/generate";
import { allAlerts } from "@pm/monitoring/rules";
import { run } from "@pm/stack/programs/child";
import { installPrometheus } from "@pm/stack/programs/prometheus";
import { type Case, cases } from "./alert-cases.ts";

type Labels = Record<string, string>;
const rules = join(chartFiles, "rules.yaml");
const seriesOf = (samples: Labels) => Object.entries(samples).map(([series, values]) => ({ series, values }));

/** Both tests of a case. ALERTS is what Prometheus itself says of an alert. */
function testsOf(alertname: string, { at, every = "1m", severity, labels = {}, fires, silent }: Case, index: number) {
  const alert = allAlerts.find((each) => each.name === alertname && (severity ?? each.severity) === each.severity);
  const selector = (more: Labels) =>
    Object.entries({ alertname, alertstate: "firing", severity: alert?.severity ?? "", ...more }).map(
      ([label, value]) => `${label}="${value}"`,
    );
  const asks = (more: Labels, exp_samples: object[]) => ({
    promql_expr_test: [{ expr: `count(ALERTS{${selector(more)}})`, eval_time: at, exp_samples }],
  });
  const name = `${alertname} ${index + 1}`;
  return [
    { name: `${name} fires`, interval: every, input_series: seriesOf(fires), ...asks(labels, [{ value: 1, labels: "{}" }]) },
    { name: `${name} does not fire`, interval: every, input_series: seriesOf(silent), ...asks({}, []) },
  ];
}

const all = Object.entries(cases).flatMap(([name, each]) => each.flatMap((one, index) => testsOf(name, one, index)));
const { promtool } = await installPrometheus((line) => void process.stdout.write(`${line}\n`));
const folder = mkdtempSync(join(tmpdir(), "pm-rules-"));
try {
  await run(promtool, ["check", "rules", rules]);
  for (const evaluation_interval of ["1m", "10m"]) {
    const file = join(folder, `every-${evaluation_interval}.json`);
    const tests = all.filter(({ interval }) => interval === evaluation_interval);
    writeFileSync(file, JSON.stringify({ rule_files: [rules], evaluation_interval, tests }));
    process.stdout.write(await run(promtool, ["test", "rules", file]));
  }
  process.stdout.write(`${all.length} tests of ${Object.keys(cases).length} alerts hold.\n`);
} catch (error) {
  process.stdout.write(`${(error as Error).message}\n`);
  process.exitCode = 1;
} finally {
  rmSync(folder, { recursive: true, force: true });
}

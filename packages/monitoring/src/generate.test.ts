import { existsSync, readdirSync, readFileSync } from "node:fs";
import { basename, join } from "node:path";
import { expect, test } from "vitest";
import { parse } from "yaml";
import { dashboards } from "./dashboards/dashboards.ts";
import { chartFiles, generated } from "./generate.ts";
import { allAlerts } from "./rules.ts";
import { queriesOf, runbookOf } from "./runbooks.ts";

const root = join(import.meta.dirname, "../../..");
const read = (path: string) => readFileSync(join(root, path), "utf8");
const alertNames = [...new Set(allAlerts.map(({ name }) => name))].sort();
const panels = dashboards.flatMap(({ rows }) => rows.flatMap((row) => row.panels));

test("the chart's files are what `npm run generate` writes", () => {
  for (const [path, text] of generated()) expect(readFileSync(join(chartFiles, path), "utf8"), path).toBe(text);
  const written = readdirSync(join(chartFiles, "dashboards")).map((file) => `dashboards/${file}`);
  expect(written.filter((path) => !generated().has(path))).toEqual([]);
});

test("every alert has a runbook of its name, and every runbook an alert", () => {
  expect(readdirSync(join(root, "docs/runbooks")).sort()).toEqual(alertNames.map((name) => basename(runbookOf(name))));
  type Rule = { alert?: string; annotations?: { runbook_url: string } };
  const { groups } = parse(read("charts/patient-management/files/rules.yaml")) as { groups: { rules: Rule[] }[] };
  const urls = groups.flatMap(({ rules }) => rules.flatMap(({ annotations }) => annotations?.runbook_url ?? []));
  expect(urls).toHaveLength(allAlerts.length);
  expect(urls.filter((url) => !existsSync(join(root, url)))).toEqual([]);
});

test("every runbook begins to look with a query", () => {
  for (const name of alertNames) expect(queriesOf(name).length, name).toBeGreaterThan(0);
});

test("each series of an alert is selected so that the chart can narrow it to a release", () => {
  const selectors = allAlerts.flatMap(({ expr }) => [...expr.matchAll(/\w(\{[^}]*\}|\[)/g)].map(([, selector = ""]) => selector));
  expect(selectors.length).toBeGreaterThan(30);
  expect(selectors.filter((selector) => !/^\{(service|deployment|job_name|container)=~"\.\+(-migrate)?"/.test(selector))).toEqual([]);
});

test("each panel has a title of its own on its dashboard, and asks for the namespace that its reader chose", () => {
  for (const { uid, rows } of dashboards) {
    const titles = rows.flatMap((row) => row.panels.map(({ title }) => title));
    expect([...new Set(titles)], uid).toEqual(titles);
  }
  const wide = panels.flatMap(({ title, queries }) =>
    queries.filter(({ expr }) => !expr.includes('namespace=~"$namespace"')).map(() => title),
  );
  expect(wide).toEqual([]);
});

/** The pages that say what to do when an alert fires. */
import { readFileSync } from "node:fs";
import { join } from "node:path";

const root = join(import.meta.dirname, "../../..");

/** Relative to the root of this repository; the chart puts the reader's URL in front. */
export const runbookOf = (alert: string) => `docs/runbooks/${alert}.md`;

/** The queries with which the runbook of an alert begins to look, one a line. */
export function queriesOf(alert: string): string[] {
  const page = readFileSync(join(root, runbookOf(alert)), "utf8");
  return /^## Look\n\n```promql\n([\s\S]*?)\n```$/m.exec(page)?.[1]?.split("\n") ?? [];
}

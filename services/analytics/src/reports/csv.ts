/** Reports as CSV. */
import { stringify } from "csv-stringify/sync";
import { agingBuckets, moneyFlows } from "../measures.ts";
import type { ActivityReport } from "./activity.ts";
import type { BillingReport } from "./billing.ts";
import type { Breakdown } from "./breakdown.ts";
import type { PatientReport } from "./patients.ts";
import type { SummaryReport } from "./summary.ts";

type Cell = string | number | bigint | null;

function table(columns: string[], rows: Cell[][]): string {
  // Spreadsheets take a cell that begins with =, +, - or @ for a formula, and a city may have any name.
  const shown = rows.map((row) => row.map((cell) => cell ?? "hidden"));
  return stringify(shown, { header: true, columns, escape_formulas: true });
}

export function patientsCsv({ series }: PatientReport): string {
  const columns = [
    "start",
    "end",
    "registered",
    "deleted",
    "restored",
    "merged",
    "unmerged",
    "net",
    "active",
    "registeredLastYear",
  ] as const;
  return table(
    [...columns],
    series.map((row) => columns.map((column) => row[column])),
  );
}

export function breakdownCsv({ by, rows, pyramid }: Breakdown): string {
  return table(
    [by, "registered", "active", ...(pyramid ? ["activeFemale", "activeMale", "activeOther"] : [])],
    rows.map(({ value, registered, active }, index) => {
      const sexes = pyramid?.[index];
      return [value, registered, active, ...(sexes ? [sexes.female, sexes.male, sexes.other] : [])];
    }),
  );
}

/** Amounts are minor units. */
export function billingCsv({ currency, series }: BillingReport): string {
  const columns = [...moneyFlows, "outstanding", "credit"] as const;
  return table(
    ["start", "end", "currency", ...columns, ...agingBuckets.map(({ label }) => `open ${label} days`)],
    series.map((row) => [row.start, row.end, currency, ...columns.map((column) => row[column]), ...row.aging]),
  );
}

export function activityCsv({ series }: ActivityReport): string {
  const columns = ["start", "end", "signedIn", "failed", "sessionsEnded", "usersDisabled"] as const;
  return table(
    [...columns],
    series.map((row) => columns.map((column) => row[column])),
  );
}

export function summaryCsv({ patients, billing, activity }: SummaryReport): string {
  const rows = Object.entries({ patients, billing, activity }).flatMap(([part, { now, lastYear }]) =>
    Object.entries(now).map(([measure, value]): Cell[] => [
      part,
      measure,
      value,
      measure in lastYear ? ((lastYear as Record<string, Cell>)[measure] ?? null) : "",
    ]),
  );
  return table(["part", "measure", "value", "lastYear"], rows);
}

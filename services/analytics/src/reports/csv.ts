/** In which form a report is wanted, and reports as CSV. */
import { AppError } from "@pm/kit/errors";
import { stringify } from "csv-stringify/sync";
import { agingBuckets } from "../ingest/billing-account.ts";
import type { ActivityReport } from "./activity.ts";
import type { BillingReport } from "./billing.ts";
import type { Breakdown } from "./breakdown.ts";
import type { PatientReport } from "./patients.ts";
import type { SummaryReport } from "./summary.ts";
import type { Shown } from "./suppression.ts";

export const formats = ["json", "csv", "svg"] as const;
export type Format = (typeof formats)[number];

export const mediaTypes: Record<Format, string> = { json: "application/json", csv: "text/csv", svg: "image/svg+xml" };

/**
 * The form that is asked for by `?format=`, or else the one of those offered that `Accept` likes best (RFC 9110, 12.5.1).
 * @throws AppError not_acceptable where it likes none.
 */
export function negotiate(offered: readonly Format[], format: Format | undefined, accept: string | undefined): Format {
  if (format && offered.includes(format)) return format;
  const ranges = (accept?.trim() || "*/*").split(",").map((range) => {
    const [type = "", ...parameters] = range.split(";").map((part) => part.trim().toLowerCase());
    const quality = Number(parameters.find((parameter) => parameter.startsWith("q="))?.slice(2) ?? 1);
    return { type, quality: Number.isNaN(quality) ? 0 : quality };
  });
  const liking = (mediaType: string): number => {
    const wildcard = `${mediaType.split("/")[0]}/*`;
    // The most exact range decides, not the highest.
    const range = [mediaType, wildcard, "*/*"].map((type) => ranges.find((each) => each.type === type)).find((each) => each !== undefined);
    return range?.quality ?? 0;
  };
  const best = format === undefined ? offered.toSorted((a, b) => liking(mediaTypes[b]) - liking(mediaTypes[a]))[0] : undefined;
  if (!best || liking(mediaTypes[best]) === 0) {
    const choice = offered.map((each) => `${mediaTypes[each]} (?format=${each})`).join(", ");
    throw new AppError("not_acceptable", `This report comes as ${choice}.`);
  }
  return best;
}

type Cell = string | number | bigint;

function table(columns: string[], rows: Cell[][]): string {
  // A spreadsheet takes a cell that begins with =, +, - or @ for a formula; a city may be called anything.
  return stringify(rows, { header: true, columns, escape_formulas: true });
}

const hiddenText = "hidden";
const shown = (value: Shown): Cell => value ?? hiddenText;

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
      return [value, shown(registered), shown(active), ...(sexes ? [shown(sexes.female), shown(sexes.male), shown(sexes.other)] : [])];
    }),
  );
}

/** Amounts are in minor units. */
export function billingCsv({ currency, series }: BillingReport): string {
  const columns = ["charged", "voided", "collected", "refunded", "invoiced", "outstanding", "credit"] as const;
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
    Object.entries(now).map(([measure, value]): Cell[] => [part, measure, value, (lastYear as Record<string, Cell>)[measure] ?? ""]),
  );
  return table(["part", "measure", "value", "lastYear"], rows);
}

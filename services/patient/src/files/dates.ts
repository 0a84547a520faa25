/** Dates as files write them. Day and month are never guessed: 01/02/1990 is two different days. */

export const dateFormats = [
  "YYYY-MM-DD",
  "DD.MM.YYYY",
  "DD/MM/YYYY",
  "MM/DD/YYYY",
  "DD-MM-YYYY",
  "MM-DD-YYYY",
  "YYYY/MM/DD",
  "YYYY.MM.DD",
  "YYYYMMDD",
] as const;
export type DateFormat = (typeof dateFormats)[number];

/** ISO 8601: a day, a month or a year. Databases write the first moment of a day for the day. */
const iso = /^(\d{4}(?:-\d{2}(?:-\d{2})?)?)(?:[T ]00:00(?::00(?:\.0+)?)?(?:Z|[+-]\d{2}:?\d{2})?)?$/;

const forms = new Map<DateFormat, RegExp>(
  dateFormats.map((format) => {
    const digits = format === "YYYYMMDD" ? "{2}" : "{1,2}";
    const form = format
      .replace(/\./g, "\\.")
      .replace("YYYY", "(?<year>\\d{4})")
      .replace("MM", `(?<month>\\d${digits})`)
      .replace("DD", `(?<day>\\d${digits})`);
    return [format, new RegExp(`^${form}$`)];
  }),
);

function readAs(cell: string, format: DateFormat): string | undefined {
  const { year, month = "", day = "" } = forms.get(format)?.exec(cell)?.groups ?? {};
  return year && Number(month) <= 12 && Number(day) <= 31 ? `${year}-${month.padStart(2, "0")}-${day.padStart(2, "0")}` : undefined;
}

/** A cell as an ISO date, or what to do about it. What is no date at all stays: the record says what is wrong. */
export function readDate(cell: string, format?: DateFormat): { date: string } | { problem: string } {
  const [, date] = iso.exec(cell) ?? [];
  if (date !== undefined) return { date };
  const found = format && readAs(cell, format);
  if (found !== undefined) return { date: found };
  if (format) return { problem: `must be a date as ${format} or YYYY-MM-DD` };
  const fitting = dateFormats.filter((one) => readAs(cell, one) !== undefined).map((one) => `dateFormat=${one}`);
  if (fitting.length === 0) return { date: cell };
  return { problem: `is not written as YYYY-MM-DD. If all dates of the file are written so, import it with ${fitting.join(" or ")}` };
}

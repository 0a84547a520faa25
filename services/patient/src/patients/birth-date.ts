/** A date of birth among the words of a search. */

import type { DateOrder } from "../config.ts";
import type { Born } from "./search-store.ts";

const earliestYear = 1880;

const two = (number: number) => String(number).padStart(2, "0");

/** A day, a month or a year as a span of days; undefined if the calendar does not have it. */
function spanOf(year: number, month?: number, day?: number): [string, string] | undefined {
  if (year < earliestYear || year > new Date().getUTCFullYear()) return undefined;
  if (month === undefined) return [`${year}-01-01`, `${year}-12-31`];
  if (month < 1 || month > 12) return undefined;
  const lastDay = new Date(Date.UTC(year, month, 0)).getUTCDate();
  if (day === undefined) return [`${year}-${two(month)}-01`, `${year}-${two(month)}-${lastDay}`];
  const date = `${year}-${two(month)}-${two(day)}`;
  return day < 1 || day > lastDay ? undefined : [date, date];
}

const yearFirst = /^(\d{4})[-/.](\d{1,2})(?:[-/.](\d{1,2}))?$/;
const yearLast = /^(\d{1,2})[-/.](\d{1,2})[-/.](\d{4})$/;

/**
 * Reads `1985-01-31`, `1985-01`, `31.1.1985` and `1/31/1985`, and, beside the words of a name, `1985`, which may also
 * be the beginning of a number.
 */
export function readBirthDate(token: string, order: DateOrder, isBesideName: boolean): Born | undefined {
  const spans = spansOf(token, order).filter((span) => span !== undefined);
  if (spans.length > 0) return { spans };
  const year = isBesideName && /^\d{4}$/.test(token) ? spanOf(Number(token)) : undefined;
  return year && { spans: [year], word: token };
}

function spansOf(token: string, order: DateOrder): ([string, string] | undefined)[] {
  const [, year, month, day] = yearFirst.exec(token) ?? [];
  if (year) return [spanOf(Number(year), Number(month), day === undefined ? undefined : Number(day))];
  const [, first, second, last] = yearLast.exec(token) ?? [];
  if (!last) return [];
  const dayFirst = spanOf(Number(last), Number(second), Number(first));
  const monthFirst = spanOf(Number(last), Number(first), Number(second));
  if (order === "DMY") return [dayFirst ?? monthFirst];
  if (order === "MDY") return [monthFirst ?? dayFirst];
  return [dayFirst, monthFirst];
}

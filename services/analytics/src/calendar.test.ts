import { dayMs, localDateAt, toDate } from "@pm/kit/calendar";
import { expect, test } from "vitest";
import { addYears, ageOn, countSpans, split } from "./calendar.ts";

const at = (text: string) => Date.parse(text);

test("the days on which clocks change have 23 and 25 hours", () => {
  const hours = (day: string) => split(day, day, "day", "Europe/Berlin").map(({ from, until }) => (until - from) / 3_600_000);
  expect([...hours("2026-03-29"), ...hours("2026-10-25"), ...hours("2026-10-26")]).toEqual([23, 25, 24]);
});

test("every day of a year begins when the day before ends, in zones of every kind", () => {
  for (const zone of [
    "UTC",
    "Europe/Berlin",
    "America/St_Johns",
    "Australia/Lord_Howe",
    "Pacific/Chatham",
    "Asia/Kathmandu",
    "Asia/Beirut",
    "America/Havana",
  ]) {
    const days = split("2026-01-01", "2026-12-31", "day", zone);
    expect(days).toHaveLength(365);
    for (const [index, day] of days.entries()) {
      expect(day.from % 900_000, `${zone} ${day.start}`).toBe(0);
      expect(localDateAt(day.from, zone), zone).toBe(day.start);
      expect(localDateAt(day.until - 1, zone), zone).toBe(day.start);
      if (index > 0) expect(day.from, zone).toBe(days[index - 1]?.until);
    }
  }
});

test("weeks begin on Monday, and the first and last interval are cut to the period", () => {
  const weeks = split("2026-11-18", "2026-11-30", "week", "UTC").map(({ start, end }) => [start, end]);
  expect(weeks).toEqual([
    ["2026-11-18", "2026-11-22"],
    ["2026-11-23", "2026-11-29"],
    ["2026-11-30", "2026-11-30"],
  ]);
  const months = split("2026-01-31", "2026-03-01", "month", "UTC").map(({ start, end }) => [start, end]);
  expect(months).toEqual([
    ["2026-01-31", "2026-01-31"],
    ["2026-02-01", "2026-02-28"],
    ["2026-03-01", "2026-03-01"],
  ]);
});

test("intervals are never more than was announced", () => {
  for (const interval of ["day", "week", "month"] as const) {
    for (let length = 0; length < 800; length += 7) {
      const to = toDate(at("2024-01-30") + length * dayMs);
      expect(split("2024-01-30", to, interval, "UTC").length).toBeLessThanOrEqual(countSpans("2024-01-30", to, interval));
    }
  }
});

test("somebody born on 29 February is a year older on 1 March", () => {
  expect([ageOn("2016-02-29", "2026-02-28"), ageOn("2016-02-29", "2026-03-01"), ageOn("2016-02-29", "2024-02-29")]).toEqual([9, 10, 8]);
});

test("a year later is the same day, but for 29 February", () => {
  expect(["2026-11-22", "2023-03-01", "2024-02-28"].map((day) => addYears(day, 1))).toEqual(["2027-11-22", "2024-03-01", "2025-02-28"]);
  expect([addYears("2024-02-29", -1), addYears("2024-02-29", -4), addYears("2000-02-29", -100)]).toEqual([
    "2023-02-28",
    "2020-02-29",
    "1900-02-28",
  ]);
});

import { expect, test } from "vitest";
import { addDays, isDate, isTimeZone, localDateAt, startOfDay } from "./calendar.ts";

const at = (text: string) => Date.parse(text);

test("a registration at half past eleven at night is on that local day", () => {
  expect(localDateAt(at("2026-11-20T22:30:00Z"), "Europe/Berlin")).toBe("2026-11-20");
  expect(localDateAt(at("2026-11-20T23:30:00Z"), "Europe/Berlin")).toBe("2026-11-21");
  expect(localDateAt(at("2026-11-21T04:30:00Z"), "America/New_York")).toBe("2026-11-20");
  expect(localDateAt(at("2026-11-20T18:20:00Z"), "Asia/Kathmandu")).toBe("2026-11-21");
});

test("a local day begins at midnight, and an hour later where clocks skip midnight", () => {
  expect(startOfDay("2026-11-21", "Europe/Berlin")).toBe(at("2026-11-20T23:00:00Z"));
  expect(startOfDay("2026-11-21", "Asia/Kolkata")).toBe(at("2026-11-20T18:30:00Z"));
  expect(startOfDay("2018-11-04", "America/Sao_Paulo")).toBe(at("2018-11-04T03:00:00Z"));
});

test("days that do not exist and offsets are refused", () => {
  expect(["2026-02-29", "2026-13-01", "26-01-01", "2026-1-1"].filter(isDate)).toEqual([]);
  expect(["+02:00", "Europe/Atlantis", "", "Mars/Olympus"].filter(isTimeZone)).toEqual([]);
  expect(["UTC", "Europe/Berlin", "Asia/Kathmandu"].filter(isTimeZone)).toHaveLength(3);
});

test("the day after the last one of four digits has a beginning", () => {
  expect(startOfDay(addDays("9999-12-31", 1), "UTC")).toBe(Date.UTC(10_000, 0, 1));
});

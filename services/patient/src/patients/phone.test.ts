import { expect, test } from "vitest";
import { phoneSearch, phoneWords, readPhone } from "./phone.ts";

test.each([
  ["US", "(217) 555-0123", "+12175550123"],
  ["US", "217.555.0123", "+12175550123"],
  ["US", "555-123-4567", "+15551234567"],
  ["US", "1-555-123-4567", "+15551234567"],
  ["US", "+44 20 7123 4567", "+442071234567"],
  ["US", "+33 6 12 34 56 78", "+33612345678"],
  ["US", "011 44 20 7123 4567", "+442071234567"],
  ["US", "\uff0b33 6 12 34 56 78", "+33612345678"],
  ["FR", "06 12 34 56 78", "+33612345678"],
  ["FR", "+1 (217) 555-0123", "+12175550123"],
  ["FR", "00 1 217 555 0123", "+12175550123"],
  ["CH", "044 668 18 00", "+41446681800"],
  ["CH", "+41 (0)44 668 18 00", "+41446681800"],
  ["IT", "06 1234 5678", "+390612345678"],
  ["IN", "9876543210", "+919876543210"],
  ["JM", "876-555-0123", "+18765550123"],
] as const)("in %s, the number %s becomes %s", (region, given, expected) => {
  expect(readPhone(given, region)).toBe(expected);
  expect(readPhone(expected, region)).toBe(expected);
});

test.each([
  ["US", "212-555-0123 x5"],
  ["US", "(212) 555-0123 ext. 5"],
  ["FR", "+12125550123;ext=5"],
  ["DE", "+1 212 555 0123 #5"],
] as const)("in %s, %s keeps its extension", (region, given) => expect(readPhone(given, region)).toBe("+12125550123;ext=5"));

test.each([
  ["US", "06 12 34 56 78"],
  ["US", "+1 061 234 5678"],
  ["US", "1234567890"],
  ["US", "+11234567890"],
  ["US", "217-555-012"],
  ["US", "217-555-01234"],
  ["US", "0049 30 901820"],
  ["US", "12"],
  ["US", "call me"],
  ["US", "+999 123456789"],
  ["FR", "555-123-4567"],
  ["FR", "217 555 0123"],
  ["DE", "+49 1"],
] as const)("in %s, %s is no number", (region, given) => expect(readPhone(given, region)).toBeUndefined());

test("a stored number is found by every spelling, its first and its last digits, and no other number is", () => {
  const isFound = (stored: string, asked: string, region: "US" | "CH" = "US") =>
    (phoneSearch(asked, region) ?? []).some((beginning) => phoneWords(stored).some((word) => word.startsWith(beginning)));
  for (const asked of [
    "+41 44 668 18 00",
    "0041446681800",
    "044 668 18 00",
    "+41 (0)44 668 18 00",
    "446681800",
    "668 18 00",
    "1800",
    "+41 44",
  ])
    expect([asked, isFound("+41446681800", asked)]).toEqual([asked, true]);
  expect(isFound("+41446681800", "011 41 44 668 18 00")).toBe(true);
  for (const asked of [
    "(212) 555-0123",
    "+1 212 555 0123",
    "2125550123",
    "1-212-555-0123",
    "212-555-0123 x5",
    "+12125550123;ext=5",
    "555-0123",
  ])
    expect([asked, isFound("+12125550123;ext=5", asked)]).toEqual([asked, true]);
  expect(isFound("+12125550123", "00 1 212 555 0123", "CH")).toBe(true);
  for (const asked of ["0124", "+41 212 555 0123", "212 555 0124", "5", "ada", "12 x5"])
    expect([asked, isFound("+12125550123;ext=5", asked)]).toEqual([asked, false]);
});

import { expect, test } from "vitest";
import { pageCursor, pageLimit, toPage } from "./paging.ts";

const cursorAfter = (row: string) => `after ${row}`;

test("a row beyond the page says that there is a next page, which begins after the last row shown", () => {
  expect(toPage(["a", "b", "c"], 2, cursorAfter)).toEqual({ items: ["a", "b"], nextCursor: "after b" });
});

test("the last page has no cursor, and an empty list is its last page", () => {
  expect(toPage(["a", "b"], 2, cursorAfter)).toEqual({ items: ["a", "b"] });
  expect(toPage([], 2, cursorAfter)).toEqual({ items: [] });
});

test("a page has 50 items unless its caller says otherwise, and at most 200", () => {
  expect(pageLimit().parse(undefined)).toBe(50);
  expect(pageLimit().parse("200")).toBe(200);
  for (const wrong of ["0", "201", "1.5", "many"]) expect(pageLimit().safeParse(wrong).success).toBe(false);
});

test("a cursor may be missing, but not empty or endless", () => {
  expect(pageCursor().parse(undefined)).toBeUndefined();
  for (const wrong of ["", "x".repeat(2_001)]) expect(pageCursor().safeParse(wrong).success).toBe(false);
});

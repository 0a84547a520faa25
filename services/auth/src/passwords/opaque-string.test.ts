import { expect, test } from "vitest";
import { toOpaqueString } from "./opaque-string.ts";

test.each([
  ["an accent that a Mac types as a character of its own", "Zoe\u0308", "Zo\u00eb"],
  ["a space of another script", "foo\u1680bar", "foo bar"],
  ["a no-break space", "foo\u00a0bar", "foo bar"],
  ["an ideographic space", "foo\u3000bar", "foo bar"],
])("%s is the same as the usual one", (_, typed, usual) => {
  expect(toOpaqueString(typed)).toBe(usual);
});

test.each(["Correct Horse Battery Staple", "  two words  ", "Jack of \u2666s", "\uff21\ufb01 and \u2460", "tab\tand\u200bzero width"])(
  "%j stays as it is: case, width and other characters matter",
  (password) => {
    expect(toOpaqueString(password)).toBe(password);
  },
);

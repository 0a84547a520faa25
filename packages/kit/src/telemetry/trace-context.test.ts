import { expect, test } from "vitest";
import { isSampled, parseTraceparent, traceparentFrom } from "./trace-context.ts";

const [trace, span] = ["1".repeat(32), "2".repeat(16)];

test.each([
  [`00-${trace}-${span}-01`, true],
  [`00-${trace}-${span}-03`, true],
  [`00-${trace}-${span}-00`, false],
  [`00-${trace}-${span}-02`, false],
])("%s is sampled: %s", (header, sampled) => {
  expect(parseTraceparent(header)).toMatchObject({ traceId: trace, spanId: span });
  expect(isSampled(parseTraceparent(header))).toBe(sampled);
  expect(traceparentFrom(header)).toBe(`00-${trace}-${span}-${sampled ? "01" : "00"}`);
});

test.each([
  undefined,
  null,
  "",
  "x",
  `00-${"0".repeat(32)}-${span}-01`,
  `00-${trace}-${"0".repeat(16)}-01`,
  `01-${trace}-${span}-01`,
  `00-${trace.toUpperCase()}A-${span}-01`,
])("%s names no trace, so a new one begins that is not sampled", (header) => {
  expect(parseTraceparent(header)).toBeUndefined();
  const [first, second] = [traceparentFrom(header), traceparentFrom(header)];
  expect(first).toMatch(/^00-[0-9a-f]{32}-[0-9a-f]{16}-00$/);
  expect(first).not.toBe(second);
});

import fc from "fast-check";
import { expect, test } from "vitest";
import type { AppError } from "./errors.ts";
import { requireBounds } from "./json-bounds.ts";
import { decodeHeader, decodeJson, requireUtf8Form, requireUtf8Query } from "./text.ts";

const bytes = (latin1: string) => Buffer.from(latin1, "latin1");

/** The wrong field with its message, or the result if nothing is wrong. */
function outcome(act: () => unknown): unknown {
  try {
    return act();
  } catch (error) {
    return (error as AppError).options.errors?.map(({ path, message }) => `${path}: ${message}`).join("; ");
  }
}

test.each([
  ["a byte of Latin-1", '{"name":"Zo\xeb"}', /^name: is not UTF-8/],
  ["a byte that is never UTF-8, deep inside", '{"items":[{"a":1},{"b":"x\xff"}]}', /^items\[1\]\.b: is not UTF-8/],
  ["a character that is cut off", '{"name":"Zo\xc3"}', /^name: is not UTF-8/],
  ["half of a surrogate pair as bytes", '{"name":"\xed\xa0\x80"}', /^name: is not UTF-8/],
  ["an overlong slash", '{"name":"\xc0\xaf"}', /^name: is not UTF-8/],
  ["a wrong byte in a name of a field", '{"a":{"na\xffme":1}}', /^a: is not UTF-8/],
  ["a wrong byte where the rest is no JSON", '{"name":\xff', /^: is not UTF-8/],
  ["UTF-16", '\xff\xfe{\x00"\x00', /^: is not UTF-8/],
  ["an escape of half of a surrogate pair", '{"name":"a\\ud800"}', /^name: has half of a surrogate pair/],
  ["an escape of the other half, in capitals", '["\\uDC00b"]', /^\[0\]: has half of a surrogate pair/],
  ["two halves in the wrong order", '{"a":{"b":"\\udc00\\ud800"}}', /^a\.b: has half of a surrogate pair/],
  ["half of a surrogate pair in a name of a field", '{"\\ud800":1}', /^: has half of a surrogate pair/],
])("JSON with %s is refused by the name of its field", (_, latin1, refusal) => {
  expect(outcome(() => decodeJson(bytes(latin1)))).toMatch(refusal);
});

test.each([
  ["{}", "{}"],
  ['{"name":"Zoë 🙂 \ufffd"}', '{"name":"Zoë 🙂 \ufffd"}'],
  ['{"name":"\\ud83d\\ude42 \\\\ud800"}', '{"name":"\\ud83d\\ude42 \\\\ud800"}'],
  // A byte-order mark is not part of the text. The parser refuses what is not JSON.
  ["\ufeff{}", "{}"],
  ["{\\ud800", "{\\ud800"],
  ["", ""],
])("JSON is decoded as it is: %s", (sent, text) => {
  expect(decodeJson(Buffer.from(sent))).toBe(text);
});

test("a body that is not UTF-8 is walked, however deep and long it is", () => {
  const deep = bytes(`${"[".repeat(200_000)}"\xff"${"]".repeat(200_000)}`);
  expect(String(outcome(() => decodeJson(deep))).length).toBeLessThan(400);
});

const fields = (count: number) => `{${Array.from({ length: count }, (_, index) => `"f${index}":1`).join()}}`;
const nested = (depth: number, open = "[", close = "]") => open.repeat(depth) + close.repeat(depth);

test("JSON with more fields or levels than any operation has is refused, and the bound is in the error", () => {
  const tooMany = ": has more than 10,000 fields";
  const tooDeep = ": is nested more than 32 levels deep";
  for (const text of [fields(10_000), nested(32), `{"a":${nested(15, '{"b":[', "]}")}}`, `"${"[{:".repeat(20_000)}"`, '["\\"[[["]'])
    expect(outcome(() => decodeJson(Buffer.from(text)))).toBe(text);
  for (const text of [fields(10_001), `[${Array(2).fill(fields(6_000))}]`, `[${'{"a":1},'.repeat(10_001)}`])
    expect(outcome(() => decodeJson(Buffer.from(text)))).toBe(tooMany);
  for (const text of [nested(33), nested(200_000), "[".repeat(33), `{"a":${nested(16, '{"b":[', "]}")}}`])
    expect(outcome(() => decodeJson(Buffer.from(text)))).toBe(tooDeep);
});

test("a form with more than a thousand fields is refused", () => {
  const form = (count: number) => Buffer.from(Array(count).fill("a=1").join("&"));
  expect(outcome(() => requireUtf8Form(form(1_000)))).toBeUndefined();
  expect(outcome(() => requireUtf8Form(form(1_001)))).toBe(": has more than 1,000 fields");
});

test("JSON is measured as a parser reads it, whatever is in its texts", () => {
  const depthOf = (value: unknown): number =>
    typeof value === "object" && value !== null ? 1 + Math.max(0, ...Object.values(value).map(depthOf)) : 0;
  fc.assert(
    fc.property(fc.jsonValue({ maxDepth: 6 }), fc.integer({ min: 0, max: 6 }), (value, maxLevels) => {
      const isWithin = outcome(() => requireBounds(JSON.stringify(value), { maxLevels })) === undefined;
      expect(isWithin).toBe(depthOf(value) <= maxLevels);
    }),
  );
});

test("a body of a mebibyte is measured in no time, whatever it is made of", () => {
  const started = performance.now();
  for (const part of ["\\", '"', '\\"', "[]", '"":', " ", '"\\\\"']) {
    const text = part.repeat(Math.floor(1_048_576 / part.length));
    outcome(() => decodeJson(Buffer.from(text)));
    outcome(() => decodeJson(Buffer.from(`"${text}`)));
  }
  expect(performance.now() - started).toBeLessThan(3_000);
});

test.each([
  ["q=%FF", /^q: is not UTF-8/],
  ["limit=1&q=a%C3%28", /^q: is not UTF-8/],
  ["q=%ED%A0%80", /^q: is not UTF-8/],
  ["first%20name=%ff&b=%FE", /^first%20name: is not UTF-8/],
  ["%FF=1", /^%FF: is not UTF-8/],
  ["100%=%FF", /^100%: is not UTF-8/],
  ["q", undefined],
  ["q=%C3%A9&r=%F0%9F%99%82+%25FF", undefined],
  // A percent sign that begins no byte is text.
  ["q=100%&r=%zz", undefined],
])("of the parameters %s the wrong one is named", (query, refusal) => {
  const result = outcome(() => requireUtf8Query(query));
  if (refusal) expect(result).toMatch(refusal);
  else expect(result).toBeUndefined();
});

test("a header is UTF-8 or refused by its name", () => {
  expect(decodeHeader("idempotency-key", "plain")).toBe("plain");
  expect(decodeHeader("idempotency-key", Buffer.from("Zoë").toString("latin1"))).toBe("Zoë");
  expect(outcome(() => decodeHeader("idempotency-key", "Zo\xeb"))).toMatch(/^idempotency-key: is not UTF-8/);
});

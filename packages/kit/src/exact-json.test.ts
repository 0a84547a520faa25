import fc from "fast-check";
import { expect, test } from "vitest";
import { AppError } from "./errors.ts";
import { requireExactNumbers, toExactJson } from "./exact-json.ts";

function refusalOf(text: string) {
  try {
    expect(requireExactNumbers(text)).toBe(text);
    return undefined;
  } catch (error) {
    return error instanceof AppError ? error : expect.unreachable(String(error));
  }
}
const pathsIn = (text: string) => refusalOf(text)?.options.errors?.map(({ path }) => path);

test.each([
  "9007199254740993",
  "-9007199254740993",
  "9007199254740993.0",
  "90071992547409930e-1",
  "9007199254740992.5",
  "1.0000000000000000001",
])("%s would be rounded and is refused", (number) => {
  expect(pathsIn(`{"amount": {"minorUnits": ${number}}}`)).toEqual(["amount.minorUnits"]);
});

test.each(["1e400", "-1e400", "1e-400", "1e23", "1.5e300", "99999999999.99999999", "36028797018963970"])(
  "%s is none that a double holds, and refused",
  (number) => {
    expect(pathsIn(`[1, ${number}]`)).toEqual(["[1]"]);
  },
);

test.each([
  "9007199254740992",
  "9007199254740994",
  "36028797018963968",
  "1e3",
  "1E+22",
  "10.00000000000000000",
  "-0",
  "0e999999999",
  "0.1",
  "3.141592653589793238",
])("%s is read as it is meant", (number) => {
  expect(refusalOf(`{"a": ${number}}`)).toBeUndefined();
  expect(refusalOf(number)).toBeUndefined();
});

test("every number that would be rounded is named, up to twenty, and a text with digits is none", () => {
  expect(pathsIn('{"a": [{"b": 9007199254740993}, 1], "c": 9007199254740995, "d": "x:9007199254740993, 7e2"}')).toEqual(["a[0].b", "c"]);
  expect(pathsIn(JSON.stringify({ many: "?" }).replace('"?"', `[${Array(100).fill("9007199254740993")}]`))).toHaveLength(20);
  expect(refusalOf('{"a": 9007199254740993}')?.message).toBe(
    "a: would be rounded to 9007199254740992: send a number that a JSON parser holds exactly, an integer within ±2^53",
  );
});

test("what is not JSON is left to the parser, and what is nested too deeply to look into is refused", () => {
  expect(refusalOf('{"a": 9007199254740993')).toBeUndefined();
  const deep = `${"[".repeat(100_000)}${"]".repeat(100_000)}`;
  expect(refusalOf(`{"x": ${deep}, "amount": 9007199254740993}`)?.message).toBe("The body is nested too deeply.");
});

test("a number of a million digits takes no time to refuse", () => {
  const started = performance.now();
  for (const zeros of ["0".repeat(1_000_000), `1.${"0".repeat(1_000_000)}1`, "9".repeat(1_000_000), `1${" ".repeat(1_000_000)}`])
    refusalOf(`{"a": ${zeros}}`);
  expect(performance.now() - started).toBeLessThan(2_000);
});

test("whatever integer is sent: it is read as it was, or refused", () => {
  const integers = fc.oneof(fc.bigInt(-(2n ** 70n), 2n ** 70n), fc.bigInt(2n ** 53n - 3n, 2n ** 53n + 3n));
  fc.assert(
    fc.property(integers, (integer) => {
      const isHeld = BigInt(Number(integer)) === integer;
      expect(refusalOf(`{"a":${integer}}`) === undefined).toBe(isHeld);
    }),
    { numRuns: 2_000 },
  );
});

test("an integer of any size is written in full", () => {
  fc.assert(
    fc.property(fc.bigInt(-(2n ** 90n), 2n ** 90n), (amount) => {
      expect(toExactJson({ amount, list: [amount] })).toBe(`{"amount":${amount},"list":[${amount}]}`);
    }),
  );
});

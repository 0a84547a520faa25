/**
 * Exact numbers in JSON. JSON does not limit numbers, but `JSON.parse` silently rounds those that a double cannot hold:
 * 9007199254740993 becomes …992. So input that would be rounded is refused, and output is written in full.
 */
import { AppError, type FieldError, invalidFields } from "./errors.ts";

declare global {
  // ES2026, like the third parameter of a reviver. The declarations of the compiler have neither yet.
  interface JSON {
    rawJSON(text: string): object;
  }
}

/** A number of 16 digits or more, or with an exponent. Only such numbers can be rounded to another integer. */
const longNumber = /(?:^|[:,[])\s*-?\d(?:[\d.]{15}|[\d.]*[eE])/;
const maxNamed = 20;

/**
 * Returns the text if `JSON.parse` reads all its numbers exactly. Text that is not JSON is left to the parser.
 * Fractions may be rounded, as everywhere (0.1), but not to an integer.
 * @throws AppError invalid_argument that names each number that would be rounded
 */
export function requireExactNumbers(text: string): string {
  if (!longNumber.test(text)) return text;
  const errors: FieldError[] = [];
  try {
    const revive = (_key: string, value: unknown, { source = "" }: { source?: string }) =>
      typeof value === "number" && !isExact(value, source) ? new Rounded(value) : value;
    for (const { path, value } of roundedIn(JSON.parse(text, revive as (key: string, value: unknown) => unknown), "")) {
      if (errors.length === maxNamed) break;
      const message = `would be rounded to ${value}: send a number that a JSON parser holds exactly, an integer within ±2^53`;
      errors.push({ path, message });
    }
  } catch (error) {
    if (error instanceof SyntaxError) return text;
    throw new AppError("invalid_argument", "The body is nested too deeply.", { cause: error });
  }
  if (errors.length > 0) throw invalidFields(errors);
  return text;
}

/**
 * Like `JSON.stringify`, with BigInts as numbers in full. A BigInt that fits a number is converted, because that is
 * faster to write.
 */
export function toExactJson(value: unknown): string {
  return JSON.stringify(value, (_key, each: unknown) => {
    if (typeof each !== "bigint") return each;
    const number = Number(each);
    return Number.isSafeInteger(number) ? number : JSON.rawJSON(String(each));
  });
}

class Rounded {
  readonly value: number;

  constructor(value: number) {
    this.value = value;
  }
}

function* roundedIn(value: unknown, path: string): Generator<{ path: string; value: number }> {
  if (value instanceof Rounded) yield { path, value: value.value };
  else if (Array.isArray(value)) for (const [index, each] of value.entries()) yield* roundedIn(each, `${path}[${index}]`);
  else if (typeof value === "object" && value !== null)
    for (const [key, each] of Object.entries(value)) yield* roundedIn(each, path === "" ? key : `${path}.${key}`);
}

/** Whether a parsed number equals its digits in the text. */
function isExact(value: number, source: string): boolean {
  if (!Number.isInteger(value)) return Number.isFinite(value);
  const [, whole = "", fraction = "", exponent = "0"] = /^-?(\d+)(?:\.(\d+))?(?:[eE]([+-]?\d+))?$/.exec(source) ?? [];
  const digits = `${whole}${fraction}`.replace(/^0+/, "");
  if (value === 0 || digits === "") return digits === "";
  let end = digits.length;
  while (digits[end - 1] === "0") end -= 1;
  const zeros = digits.length - end + Number(exponent) - fraction.length;
  // With fewer than 0 zeros it is a fraction. No double has more than 309 digits.
  return zeros >= 0 && end + zeros <= 309 && BigInt(digits.slice(0, end)) * 10n ** BigInt(zeros) === BigInt(Math.abs(value));
}

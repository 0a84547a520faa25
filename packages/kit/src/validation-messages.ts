/**
 * What callers and operators read when a value is wrong: messages that follow the name of a field, such as "limit: must
 * be at least 1". Importing this file replaces the messages of Zod, everywhere. A schema's own message stays.
 */
import { z } from "zod";

type Issue = z.core.$ZodRawIssue;

const types: Record<string, string> = {
  string: "a text",
  number: "a number",
  int: "a whole number",
  bigint: "a whole number",
  boolean: "true or false",
  date: "a date",
  array: "a list",
  tuple: "a list",
  object: "an object",
  record: "an object",
  map: "an object",
  null: "null",
};

const formats: Record<string, string> = {
  email: "an e-mail address",
  url: "a URL",
  uuid: "a UUID",
  guid: "a UUID",
  date: "a date as YYYY-MM-DD",
  datetime: "a time as 2026-01-28T09:30:00Z",
  time: "a time of day as 09:30:00",
  duration: "a duration as P1DT2H",
  ipv4: "an IPv4 address",
  ipv6: "an IPv6 address",
  cidrv4: "an IPv4 network as 10.0.0.0/8",
  cidrv6: "an IPv6 network as fc00::/7",
  base64: "base64",
  base64url: "base64url",
  e164: "a phone number as +12175550123",
  json_string: "JSON",
  jwt: "a JSON web token",
};

const units: Record<string, [one: string, many: string]> = {
  string: ["character", "characters"],
  array: ["item", "items"],
  set: ["item", "items"],
  map: ["entry", "entries"],
  file: ["byte", "bytes"],
};

/** "8 characters" or, for numbers and dates, just the value. */
function limitOf(origin: string, limit: number | bigint): string {
  const unit = units[origin];
  if (unit) return `${limit} ${Number(limit) === 1 ? unit[0] : unit[1]}`;
  return origin === "date" ? new Date(Number(limit)).toISOString() : String(limit);
}

function messageOfSize(issue: Issue & { code: "too_small" | "too_big" }): string {
  const isMinimum = issue.code === "too_small";
  const limit = issue.code === "too_small" ? issue.minimum : issue.maximum;
  const has = issue.origin in units ? "have" : "be";
  const text = limitOf(issue.origin, limit);
  if (issue.exact) return `must ${has} exactly ${text}`;
  if (isMinimum && issue.inclusive && issue.origin in units && Number(limit) === 1) return "must not be empty";
  if (!issue.inclusive && has === "be") return `must be ${isMinimum ? "greater" : "less"} than ${text}`;
  return `must ${has} at ${isMinimum ? "least" : "most"} ${text}`;
}

function messageOfFormat(issue: Issue & { code: "invalid_format" }): string {
  if (issue.format === "starts_with") return `must start with "${issue.prefix}"`;
  if (issue.format === "ends_with") return `must end with "${issue.suffix}"`;
  if (issue.format === "includes") return `must contain "${issue.includes}"`;
  if (issue.format === "regex") return `must match ${issue.pattern}`;
  return `must be ${formats[issue.format] ?? `a text in the format ${issue.format}`}`;
}

/**
 * What each alternative says of the value as a whole; what they say of its parts would mislead, because only one of
 * them is meant.
 */
function messageOfUnion({ errors }: Issue & { code: "invalid_union" }): string {
  const messages = errors.flatMap((issues) => issues.filter(({ path }) => path.length === 0).map(({ message }) => message));
  return [...new Set(messages)].join(", or ") || "is not valid";
}

function messageOf(issue: Issue): string {
  if (issue.input === undefined && issue.code !== "custom") return "is required";
  switch (issue.code) {
    case "invalid_type":
      return `must be ${types[issue.expected] ?? issue.expected}`;
    case "invalid_value":
      return `must be ${issue.values.length > 1 ? "one of " : ""}${issue.values.map(String).join(", ")}`;
    case "too_small":
    case "too_big":
      return messageOfSize(issue);
    case "invalid_format":
      return messageOfFormat(issue);
    case "not_multiple_of":
      return `must be a multiple of ${issue.divisor}`;
    case "invalid_union":
      return messageOfUnion(issue);
    case "unrecognized_keys":
      return `has unknown fields: ${issue.keys.join(", ")}`;
    case "invalid_key":
      return "has a key that is not allowed";
    case "invalid_element":
      return "has an item that is not allowed";
    default:
      return "is not valid";
  }
}

z.config({ customError: messageOf });

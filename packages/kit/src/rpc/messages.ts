/**
 * What callers read if a message is wrong: the words of REST (`validation-messages.ts`) instead of those of
 * protovalidate and of Connect, such as "account_id: must be a UUID".
 */
import type { DescOneof } from "@bufbuild/protobuf";
import type { Violation } from "@bufbuild/protovalidate";
import { type AppError, invalidFields } from "../errors.ts";

const count = (limit: string, unit: string) => `${limit} ${unit}${limit === "1" ? "" : "s"}`;
const patterns = new Map([
  ["^[0-9]{4}-[0-9]{2}-[0-9]{2}$", "must be a date as YYYY-MM-DD"],
  ["^[A-Z]{3}$", "must be a currency of ISO 4217, such as EUR"],
]);
const isNotKnown = "is not a value that is known here";

/** Messages by the rule that is broken, with the limits that the rule names. */
const messages: Record<string, (limits: string[], violation: Violation) => string> = {
  required: (_, { field }) => (field.at(-1)?.kind === "oneof" ? `must be ${namesOf(field.at(-1) as DescOneof)}` : "is required"),
  "string.uuid": () => "must be a UUID",
  "string.uuid_empty": () => "is required",
  "string.email": () => "must be an e-mail address",
  "string.min_len": ([least = ""]) => (least === "1" ? "must not be empty" : `must have at least ${count(least, "character")}`),
  "string.max_len": ([most = ""]) => `must have at most ${count(most, "character")}`,
  "string.pattern": (_, { message }) => patterns.get(/`(.*)`/.exec(message)?.[1] ?? "") ?? "is not in the format of the API document",
  "repeated.min_items": ([least = ""]) => (least === "1" ? "must not be empty" : `must have at least ${count(least, "item")}`),
  "repeated.max_items": ([most = ""]) => `must have at most ${count(most, "item")}`,
  "repeated.unique": () => "must not have an item twice",
  "enum.not_in": () => "is required",
  "enum.defined_only": () => isNotKnown,
  "field_mask.in": (_, { message }) => `must be of ${/\[(.*)\]/.exec(message)?.[1]}`,
  gt: ([least = ""]) => `must be greater than ${least}`,
  gte: ([least = ""]) => `must be at least ${least}`,
  lte: ([most = ""]) => `must be at most ${most}`,
  gte_lte: ([least = "", most = ""]) => `must be at least ${least} and at most ${most}`,
};

const namesOf = ({ fields }: DescOneof) => fields.map(({ name }) => name).join(" or ");

/** Rules of our own have messages of our own. */
export function messageOf(violation: Violation): string {
  const { ruleId, message } = violation;
  const explain = messages[ruleId] ?? messages[ruleId.replace(/^u?int\d+\./, "")];
  return explain ? explain(message.match(/-?\d+/g) ?? [], violation) : message;
}

/** What values of JSON a field takes, by what protobuf expects. */
const kinds: [RegExp, string][] = [
  [/: invalid UTF8$/, "must be text without half of a surrogate pair"],
  [/^expected string/, "must be a text"],
  [/^expected (bigint|number \(u?int32\))/, "must be a whole number in the range of its type"],
  [/^expected number/, "must be a number"],
  [/^expected boolean/, "must be true or false"],
  [/^expected Array/, "must be a list"],
  [/^set multiple times$/, "is there twice"],
];

const undecodable = /^cannot decode (message|field|enum) (\S+) from JSON: (.*)$/s;

/**
 * The error for JSON that is no message of its type, by what protobuf says of it. It names a field without its path.
 * Undefined for every other error.
 */
export function undecodableJson(rawMessage: string): AppError | undefined {
  const [, what, name = "", reason = ""] = undecodable.exec(rawMessage) ?? [];
  if (what === undefined) return undefined;
  const wrong = (path: string, message: string) => invalidFields([{ path, message }]);
  const [, unknown] = /^key "(.*)" is unknown$/s.exec(reason) ?? [];
  if (unknown !== undefined) return wrong(unknown, `is not a known field of ${name}; check its spelling`);
  const [, repeated] = /^duplicate object key "(.*)"$/s.exec(reason) ?? [];
  if (repeated !== undefined) return wrong(repeated, "is there twice");
  const message = kinds.find(([expected]) => expected.test(reason))?.[1];
  if (what === "field") return wrong(name.slice(name.lastIndexOf(".") + 1), message ?? "is not valid");
  if (what === "enum") return wrong("", `has a value that ${name} does not have: ${reason.slice(0, 100)}`);
  return wrong("", / JSON\b/.test(reason) ? "is not valid JSON" : `has something that is not a ${name}`);
}

/** The conditions of a search by fields, as callers write them: every condition holds, by one of its values. */
import { type FieldError, invalidFields } from "@pm/kit/errors";
import { faultOfText } from "@pm/kit/plain-text";
import { isUuid } from "@pm/kit/uuid";
import { z } from "zod";
import type { RecordSettings } from "../config.ts";
import { firstDay, sexes } from "../tables.ts";
import { fold, split } from "./folding.ts";
import { readPhone } from "./phone.ts";
import {
  type DateTest,
  dateOps,
  type IdentifierTest,
  type InstantTest,
  type otherFields,
  type TextTest,
  textFieldNames,
  type textForms,
  type Where,
  type WhereCondition,
  type whereFields,
} from "./where-store.ts";

/** As callers write it. */
export type GivenCondition = {
  field: (typeof whereFields)[number];
  is?: (typeof textForms)[number] | undefined;
  anyOf?: string[] | undefined;
  missing?: boolean | undefined;
};

const day = z.iso.date();
const instant = z.iso.datetime({ offset: true });

function readDate(text: string): DateTest | undefined {
  const [, op = "eq", date = ""] = /^([a-z]{2})?([1-9]\d{3}(?:-\d{2}){0,2})$/.exec(text) ?? [];
  const first = firstDay(date);
  const known = dateOps.find((each) => each === op);
  if (!known || !day.safeParse(first).success) return undefined;
  const [year, month] = [Number(first.slice(0, 4)), Number(first.slice(5, 7))];
  const endOfMonth = new Date(Date.UTC(year, date.length === 4 ? 12 : month, 0)).toISOString().slice(0, 10);
  const last = date.length === 10 ? date : endOfMonth;
  return { op: known, first, last };
}

function readInstant(text: string): InstantTest | undefined {
  const [, op, at = ""] = /^(gt|ge|lt|le)(.+)$/.exec(text) ?? [];
  return op && instant.safeParse(at).success && at >= "0001" ? { op: op as InstantTest["op"], at } : undefined;
}

function readIdentifier(text: string): IdentifierTest | undefined {
  const bar = text.indexOf("|");
  const [system, value] = bar === -1 ? ["", text.trim()] : [text.slice(0, bar), text.slice(bar + 1).trim()];
  if (system === "" && value === "") return undefined;
  // Every identifier has a system.
  if (bar === 0) return undefined;
  return { ...(system && { system }), ...(value && { value }), words: split(fold(value)) };
}

/** A number as it is stored, or the beginning of one. */
function readNumber(text: string, is: (typeof textForms)[number], region: RecordSettings["phoneRegion"]): TextTest {
  const digits = text.replace(/\D/g, "");
  const number = (is === "contains" ? undefined : readPhone(text, region)) ?? (is === "contains" ? digits : `+${digits}`);
  const word = number.replace(/;.*/, "").replace("+", "");
  return { text: number, words: is === "contains" ? [] : [word], isBeginning: true };
}

function readText({ field, is = "start" }: GivenCondition, text: string, region: RecordSettings["phoneRegion"]): TextTest {
  if (field === "phone") return readNumber(text, is, region);
  const folded = fold(text);
  const words = field === "email" ? [folded] : ["name", "family", "given"].includes(field) ? split(folded) : [];
  const isBeginning = is === "start" && /[\p{L}\p{N}\p{M}]$/u.test(folded);
  return { text: is === "exact" ? text : folded, words: is === "contains" && field === "email" ? [] : words, isBeginning };
}

const hints: Record<(typeof otherFields)[number], string> = {
  id: "must be an id",
  mergedInto: "must be an id",
  linkedTo: "must be an id",
  identifier: "must be system|value, system| or value",
  sex: `must be one of ${sexes.join(", ")}`,
  deceased: "must be true or false",
  dateOfBirth: `must be a date as YYYY-MM-DD, YYYY-MM or YYYY, after ${dateOps.join(", ")} or nothing`,
  updatedAt: "must be gt, ge, lt or le and an instant, such as ge2026-01-28T09:30:00Z",
};

/** @throws AppError invalid_argument that names every wrong value */
export function readWhere(
  given: GivenCondition[],
  states: readonly Where["states"][number][],
  region: RecordSettings["phoneRegion"],
): Where {
  const problems: FieldError[] = [];
  const conditions = given.map((condition, index): WhereCondition => {
    const path = `where[${index}]`;
    const { field, is, anyOf = [], missing } = condition;
    if ((missing === undefined) === (anyOf.length === 0)) problems.push({ path, message: "must have either anyOf or missing" });
    const isText = (textFieldNames as string[]).includes(field);
    if (is !== undefined && (!isText || missing !== undefined)) problems.push({ path: `${path}.is`, message: "is for texts only" });
    if (missing !== undefined) return { field, missing };
    /** The values as `read` gives them. */
    const all = <Value>(read: (text: string) => Value | undefined): Value[] =>
      anyOf.flatMap((text, n) => {
        const value = read(text.normalize());
        const fault = faultOfText(text);
        const hint = isText ? "must have a letter or a digit" : hints[field as keyof typeof hints];
        if (fault !== undefined || value === undefined) problems.push({ path: `${path}.anyOf[${n}]`, message: fault ?? hint });
        return value === undefined ? [] : [value];
      });
    switch (field) {
      case "id":
      case "mergedInto":
      case "linkedTo":
        // What is no id is nobody's.
        return { field, ids: all((text) => text).filter(isUuid) };
      case "identifier":
        return { field, identifiers: all(readIdentifier) };
      case "sex":
        return { field, sexes: all((text) => sexes.find((sex) => sex === text)) };
      case "deceased":
        return { field, flags: all((text) => (text === "true" ? true : text === "false" ? false : undefined)) };
      case "dateOfBirth":
        return { field, dates: all(readDate) };
      case "updatedAt":
        return { field, instants: all(readInstant) };
      default:
        return {
          field,
          is: is ?? "start",
          texts: all((text) => (/[\p{L}\p{N}]/u.test(text) ? readText(condition, text, region) : undefined)),
        };
    }
  });
  if (problems.length > 0) throw invalidFields(problems);
  return { states: [...new Set(states)], conditions };
}

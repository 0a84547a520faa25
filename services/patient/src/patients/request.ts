/** What routes on patients share: parameters, headers, filters of lists, and how an answer shows a patient. */
import { z } from "@hono/zod-openapi";
import { entityTags } from "@pm/kit/http/etag";
import { plainText } from "@pm/kit/http/schemas";
import { plainTextPattern } from "@pm/kit/plain-text";
import type { Patient } from "../tables.ts";
import { sincePattern } from "./changes.ts";
import { identifierLimits, readKey } from "./identifiers.ts";
import type { Filters, PatientPage } from "./list.ts";
import { listsOf } from "./views.ts";

/** A patient as answers show it. */
export function toBody({ id, version, record, createdAt, updatedAt, deletedAt, mergedInto, replaces, accountId }: Patient) {
  return {
    id,
    ...record,
    ...listsOf(record),
    version,
    createdAt: createdAt.toISOString(),
    updatedAt: updatedAt.toISOString(),
    ...(deletedAt && { deletedAt: deletedAt.toISOString() }),
    ...(mergedInto && { mergedInto }),
    ...(replaces && { replaces }),
    billing: accountId === undefined ? { status: "pending" as const } : { status: "active" as const, accountId },
  };
}

export const toPageBody = ({ items, completeUntil, ...page }: PatientPage) => ({
  ...page,
  items: items.map(toBody),
  ...(completeUntil && { completeUntil: completeUntil.toISOString() }),
});

export const params = z.object({
  id: z.string().openapi({ param: { name: "id", in: "path" }, format: "uuid", example: "0193b3f0-8c1a-7b6e-9d2f-3a4b5c6d7e8f" }),
});
export const ifMatch = z.object({
  "if-match": z
    .string()
    .max(1_000)
    .regex(entityTags, 'must be an ETag in its quotes ("4"), several of them with commas between, or *')
    .optional()
    .openapi({
      description: "The ETag of the version that you change, strong or weak. If the patient has another version now, the answer is 412.",
      example: '"1"',
    }),
});
export const idempotencyKey = plainText.min(1).max(200).openapi({ pattern: plainTextPattern }).optional();
// Postgres has no day before the year 1.
const date = z.iso.date().refine((value) => value >= "0001-01-01", "must be a date as YYYY-MM-DD");
const day = date.optional();
const days = z
  .string()
  .transform((text) => text.split(",") as [string, string])
  .refine(
    (pair) => pair.length === 2 && pair.every((text) => date.safeParse(text).success) && pair[0] <= pair[1],
    "must be two dates as YYYY-MM-DD,YYYY-MM-DD, the earlier one first",
  )
  .optional();
const word = (max: number) => plainText.min(1).max(max).openapi({ pattern: plainTextPattern }).optional();

export const filters = {
  q: word(200).openapi({
    description: `Finds by name, e-mail or phone number, from the beginning of a word or nearly right, and by id. A date of birth
(1985-01-31, 1985-01, 31.1.1985; 1985 beside a name) narrows. Titles and initials do no harm.`,
    example: "lovelace 1987",
  }),
  dateOfBirth: day,
  identifier: plainText
    .max(identifierLimits.system + identifierLimits.value + 1)
    .transform((text, context) => {
      const key = readKey(text);
      if (!key) context.addIssue({ code: "custom", message: "must be a system and a value with | between: mrn|P1000002" });
      return key ?? z.NEVER;
    })
    .openapi({
      type: "string",
      allOf: [{ pattern: plainTextPattern }, { pattern: "^[^\\s|]+\\|.*\\S.*$" }],
      description: "`system|value`: exactly this identifier.",
      example: "mrn|P1000002",
    })
    .optional(),
  city: word(100),
  state: word(100),
  registeredAfter: day.openapi({ description: "Registered later than this day." }),
  registeredBefore: day.openapi({ description: "Registered earlier than this day." }),
  bornBetween: days.openapi({
    description: "The first and the last day, both included.",
    pattern: "^[0-9-]{10},[0-9-]{10}$",
    example: "1970-01-01,1979-12-31",
  }),
  deleted: z.enum(["true", "false", "include"]).default("false").openapi({
    description: "`true` lists the deleted patients instead, `include` lists both.",
  }),
  updatedAfter: z
    .string()
    .max(100)
    .optional()
    .openapi({
      pattern: sincePattern,
      description: `What changed later: an instant, or \`until\` of the answer before. With \`until\`, patients may be repeated, and none
is left out. An answer ends before the oldest write in flight. Begin with 0001-01-01T00:00:00Z. Add \`deleted=include\` to learn of
deletions and merges. Being shared with somebody is no change of a patient.`,
      example: "2026-01-28T09:30:00Z",
    }),
};

type Deleted = "true" | "false" | "include";

export function filtersOf<Query extends Omit<Filters, "deleted"> & { deleted: Deleted }>(query: Query) {
  return { ...query, deleted: query.deleted === "include" ? query.deleted : query.deleted === "true" };
}

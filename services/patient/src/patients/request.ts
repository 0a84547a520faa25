/** What the route tables share: who calls, how a patient is shown, how lists are filtered. */
import { z } from "@hono/zod-openapi";
import { unprintable } from "@pm/kit/errors";
import type { RestContext } from "@pm/kit/http/rest";
import type { Patient } from "../tables.ts";
import type { Filters } from "./list.ts";
import type { Call } from "./patients.ts";
import { printable } from "./schemas.ts";

export function callOf(c: RestContext): Call {
  return { caller: c.get("caller"), requestId: c.get("requestId"), traceparent: c.get("traceparent") };
}

/** A patient as answers show it. */
export function toBody({ id, version, record, createdAt, updatedAt, accountId }: Patient) {
  return {
    id,
    ...record,
    version,
    createdAt: createdAt.toISOString(),
    updatedAt: updatedAt.toISOString(),
    billing: accountId === undefined ? { status: "pending" as const } : { status: "active" as const, accountId },
  };
}

export const cursor = z.string().min(1).max(2_000).optional().openapi({ description: "`nextCursor` of the page before." });
// Postgres has no day before the year 1 and neither has a patient.
const day = z.iso
  .date()
  .refine((value) => value >= "0001-01-01", "must be a date as YYYY-MM-DD")
  .optional();
const word = (max: number) =>
  z
    .string()
    .trim()
    .min(1)
    .max(max)
    .refine((value) => !unprintable.test(value), "must not have control characters")
    .openapi({ pattern: printable })
    .optional();

export const filters = {
  q: word(200).openapi({
    description: "Finds by name, e-mail or phone number, from the beginning of a word or nearly right, and by id.",
    example: "lovelace",
  }),
  dateOfBirth: day,
  city: word(100),
  state: word(100),
  registeredAfter: day.openapi({ description: "Registered later than this day." }),
  registeredBefore: day.openapi({ description: "Registered earlier than this day." }),
  deleted: z.enum(["true", "false"]).default("false").openapi({ description: "`true` lists the deleted patients instead." }),
};

export function filtersOf<Query extends Omit<Filters, "deleted"> & { deleted: "true" | "false" }>(query: Query) {
  return { ...query, deleted: query.deleted === "true" };
}

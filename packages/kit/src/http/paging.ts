/**
 * Pages of lists by REST. Callers ask with `limit` and `cursor`, and get `items` and the `nextCursor` to ask with next.
 * A list is read with one row more than its page shows, which tells whether a page follows. Lists by gRPC have page
 * tokens instead.
 */
import { z } from "@hono/zod-openapi";
import { cursorPattern } from "../cursor.ts";

export type PageRequest = { limit: number; cursor?: string | undefined };

/** `nextCursor` is missing on the last page. */
export type Page<Item> = { items: Item[]; nextCursor?: string };

const maxCursorLength = 2_000;
const ofThePageBefore = { description: "`nextCursor` of the page before." };

const sealed = z.string().max(maxCursorLength).regex(cursorPattern, "must be the nextCursor of an answer");

/** @param options `max` is the largest page, `byDefault` that of a caller who names none */
export const pageLimit = ({ max = 200, byDefault = 50 } = {}) => z.coerce.number().int().min(1).max(max).default(byDefault);
/** @param position what a cursor looks like where it is the id of the last item. Others are sealed (cursor.ts). */
export const pageCursor = <Position extends z.ZodType<string>>(position?: Position) =>
  (position ?? sealed).optional().openapi(ofThePageBefore);
export const nextCursor = z
  .string()
  .optional()
  .openapi({ description: "Send it as `cursor` with the same parameters; missing on the last page." });

/** @param rows those of the page, and one more if there is a next page */
export function toPage<Row>(rows: Row[], limit: number, cursorAfter: (last: Row) => string): Page<Row> {
  const items = rows.slice(0, limit);
  const last = items.at(-1);
  return { items, ...(rows.length > limit && last !== undefined && { nextCursor: cursorAfter(last) }) };
}

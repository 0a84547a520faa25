/**
 * Pages of lists (AIP-158). A page token contains the position after which the next page begins, and fits one list
 * only.
 */
import type { Cursors } from "@pm/kit/cursor";

const defaultPageSize = 50;

/**
 * Reads one page of a list.
 * @param list.query what names the list: its kind and its filters
 * @param list.read reads up to `limit` rows after the position `before`, or the first ones
 * @param list.positionOf the position of a row in the list
 * @throws AppError invalid_argument if the page token belongs to another list
 */
export async function readPage<Row>(
  cursors: Cursors,
  { pageSize, pageToken }: { pageSize: number; pageToken: string },
  list: {
    query: unknown[];
    read: (page: { before: string | undefined; limit: number }) => Promise<Row[]>;
    positionOf: (row: Row) => string;
  },
): Promise<{ rows: Row[]; nextPageToken: string }> {
  const { query, read, positionOf } = list;
  const size = pageSize || defaultPageSize;
  const before = pageToken ? String(cursors.open(query, pageToken, "page_token")[0]) : undefined;
  // One row more than the page holds shows whether there is a next page.
  const rows = await read({ before, limit: size + 1 });
  const last = rows.length > size ? rows[size - 1] : undefined;
  return { rows: rows.slice(0, size), nextPageToken: last ? cursors.seal(query, [positionOf(last)]) : "" };
}

/**
 * Pages of lists (AIP-158), and the bytes that an answer may have. A page ends after the items that its caller wants,
 * or earlier, before it is too large to be received. A page token contains the position after which the next page
 * begins, and fits one list only.
 */
import { type DescMessage, type MessageShape, toBinary } from "@bufbuild/protobuf";
import type { Cursors } from "@pm/kit/cursor";

const defaultPageSize = 50;
/** Rows that are read at once. One row may have thousands of allocations. */
export const maxRows = 200;
/**
 * gRPC clients refuse messages above 4 MiB unless they are told otherwise. The rest is for what surrounds the items.
 */
export const maxAnswerBytes = 3.5 * 1024 * 1024;
/** The most that the tag and the length of an item take. */
const prefixBytes = 6;

/** The bytes that an item adds to an answer. */
export function bytesOf<Item extends DescMessage>(schema: Item, item: MessageShape<Item>): number {
  return toBinary(schema, item).byteLength + prefixBytes;
}

/**
 * Reads one page of a list.
 * @param list.query what names the list: its kind and its filters
 * @param list.read reads up to `limit` rows after the position `before`, or the first ones
 * @param list.positionOf the position of a row in the list
 * @throws AppError invalid_argument if the page token belongs to another list
 */
export async function readPage<Row, Item extends DescMessage>(
  cursors: Cursors,
  { pageSize, pageToken }: { pageSize: number; pageToken: string },
  list: {
    query: unknown[];
    read: (page: { before: string | undefined; limit: number }) => Promise<Row[]>;
    positionOf: (row: Row) => string;
    schema: Item;
    toItem: (row: Row) => MessageShape<Item>;
  },
): Promise<{ items: MessageShape<Item>[]; nextPageToken: string }> {
  const { query, read, positionOf, schema, toItem } = list;
  const size = pageSize || defaultPageSize;
  let before = pageToken ? String(cursors.open(query, pageToken, "page_token")[0]) : undefined;
  const items: MessageShape<Item>[] = [];
  let bytes = 0;
  for (;;) {
    // One row more than the page holds shows whether there is a next page.
    const limit = Math.min(size - items.length, maxRows) + 1;
    const rows = await read({ before, limit });
    for (const row of rows) {
      const item = toItem(row);
      bytes += bytesOf(schema, item);
      const isFull = items.length === size || (items.length > 0 && bytes > maxAnswerBytes);
      if (isFull) return { items, nextPageToken: cursors.seal(query, [before]) };
      items.push(item);
      before = positionOf(row);
    }
    if (rows.length < limit) return { items, nextPageToken: "" };
  }
}

/** Splits items, in order, into parts of at most `maxSize`. An item that is larger alone is a part of its own. */
export function partsOfSize<Item>(items: Item[], maxSize: number, sizeOf: (item: Item) => number): Item[][] {
  const parts: Item[][] = [];
  let room = 0;
  for (const item of items) {
    const size = sizeOf(item);
    if (size > room || parts.length === 0) {
      parts.push([]);
      room = maxSize;
    }
    parts.at(-1)?.push(item);
    room -= size;
  }
  return parts;
}

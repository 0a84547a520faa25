import * as fc from "fast-check";
import { expect, test } from "vitest";
import { createCursors } from "./cursor.ts";

const cursors = createCursors("a secret that is at least 32 characters long");
const query = { sort: "name", q: "ann" };

test("a cursor gives back its position, whatever it holds", () => {
  fc.assert(
    fc.property(fc.array(fc.oneof(fc.string({ unit: "grapheme" }), fc.integer(), fc.constant(null))), (position) => {
      expect(cursors.open(query, cursors.seal(query, position))).toEqual(position);
    }),
  );
});

test("a long position becomes a shorter cursor, and comes back as it was", () => {
  const position = Array.from({ length: 200 }, () => crypto.randomUUID());
  const cursor = cursors.seal(query, position);
  expect(cursors.open(query, cursor)).toEqual(position);
  expect(cursor.length).toBeLessThan(0.75 * JSON.stringify(position).length);
});

test("cursors that callers hold already are still read", () => {
  expect(cursors.open(query, "bknkN9u9N8LqP0kjlCRKedxIho1yX6FNAqmhM9-piBTaQMs1QIo")).toEqual(["Zoë", 7]);
});

test("a cursor does not show its position", () => {
  const cursor = cursors.seal(query, ["Zoë Ångström"]);
  expect(Buffer.from(cursor, "base64url").toString("utf8")).not.toContain("Zoë");
});

test("a cursor of another query, of another key, changed or made up is refused by its field", () => {
  const cursor = cursors.seal(query, ["x"]);
  const changed = `${cursor.slice(0, -2)}${cursor.endsWith("AA") ? "BB" : "AA"}`;
  const others = [() => cursors.open({ ...query, q: "bob" }, cursor, "pageToken")];
  for (const wrong of [changed, "", "garbage", cursor.slice(0, 20)]) others.push(() => cursors.open(query, wrong, "pageToken"));
  others.push(() => createCursors("another secret that is at least 32 characters").open(query, cursor, "pageToken"));
  for (const open of others)
    expect(open).toThrow(
      expect.objectContaining({
        code: "invalid_argument",
        options: expect.objectContaining({ errors: [expect.objectContaining({ path: "pageToken" })] }),
      }),
    );
});

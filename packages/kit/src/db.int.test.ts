/** What the database's helpers make, read back by a real Postgres. */
import { startPostgres } from "@pm/stack/postgres";
import fc from "fast-check";
import { afterAll, expect, test } from "vitest";
import { arrayText, openDatabase } from "./db.ts";
import { createLogger } from "./log.ts";

const postgres = await startPostgres({ durable: false });
const database = openDatabase({
  settings: { url: postgres.url },
  poolSize: 1,
  applicationName: "test",
  log: createLogger("test", "silent"),
});

afterAll(async () => {
  await database.kysely.destroy();
  await postgres.stop();
});

test("an array as text holds what was put into it, whatever it looks like", async () => {
  // Postgres has no texts with a NUL in them.
  const text = fc.oneof(
    fc.string({ unit: "grapheme" }).map((any) => any.replaceAll("\0", "")),
    fc.constantFrom("null", "NULL", "", '"', "\\", "{}", ",", "\\x00", "a\nb\t\r", " "),
  );
  await fc.assert(
    fc.asyncProperty(
      fc.array(fc.option(text)),
      fc.array(fc.uint8Array()),
      fc.array(fc.option(fc.bigInt({ min: -(2n ** 63n), max: 2n ** 63n - 1n }))),
      async (texts, bytes, numbers) => {
        const [row] = await database.query<{ texts: unknown; bytes: Buffer[]; numbers: unknown }>(
          { name: "echo", text: "select $1::text[] as texts, $2::bytea[] as bytes, $3::bigint[]::text[] as numbers" },
          [arrayText(texts), arrayText(bytes), arrayText(numbers)],
        );
        expect(row?.texts).toEqual(texts);
        expect(row?.bytes.map((each) => [...each])).toEqual(bytes.map((each) => [...each]));
        expect(row?.numbers).toEqual(numbers.map((number) => number?.toString() ?? null));
      },
    ),
  );
});

/** Rows as binary arrays, read by a real Postgres. */
import { startPostgres } from "@pm/stack/native/postgres";
import fc from "fast-check";
import { afterAll, beforeAll, expect, test } from "vitest";
import { createLogger } from "../src/log.ts";
import { defineBulkInput } from "../src/postgres/bulk.ts";
import { type Database, openDatabase } from "../src/postgres/database.ts";

const postgres = await startPostgres({ durable: false });
let db: Database<unknown>;

beforeAll(async () => {
  const { databaseUrl } = await postgres.createDatabase("columns");
  db = openDatabase({ settings: { url: databaseUrl }, poolSize: 1, applicationName: "test", log: createLogger("test", "silent") });
});
afterAll(async () => {
  await db.kysely.destroy();
  await postgres.stop();
});

type Row = {
  id: string;
  name: string | null;
  record: unknown;
  bytes: Uint8Array;
  flag: boolean;
  small: number;
  whole: number | null;
  real: number;
  big: bigint;
  at: Date;
  day: string | null;
};

const columns = defineBulkInput<Row>({
  id: ["uuid", ({ id }) => id],
  name: ["text", ({ name }) => name],
  record: ["json", ({ record }) => JSON.stringify(record)],
  bytes: ["bytea", ({ bytes }) => bytes],
  flag: ["boolean", ({ flag }) => flag],
  small: ["smallint", ({ small }) => small],
  whole: ["integer", ({ whole }) => whole],
  real: ["double precision", ({ real }) => real],
  big: ["bigint", ({ big }) => big],
  at: ["timestamptz", ({ at }) => at],
  day: ["date", ({ day }) => day],
});
const echo = { name: "echo", text: `select * from ${columns.source("echoed")}` };

// Postgres has no texts with a NUL in them.
const name = fc
  .oneof(fc.string({ unit: "grapheme" }), fc.constantFrom("null", "", '"', "\\", "{}", ",", "\\x00", "a\nb\t\r", " "))
  .map((any) => any.replaceAll("\0", ""));
const date = fc.date({ min: new Date("0001-01-01"), max: new Date("9999-12-31"), noInvalidDate: true });
const row: fc.Arbitrary<Row> = fc.record({
  id: fc.uuid(),
  name: fc.option(name),
  record: fc.array(name),
  bytes: fc.uint8Array(),
  flag: fc.boolean(),
  small: fc.integer({ min: -32_768, max: 32_767 }),
  whole: fc.option(fc.integer()),
  // Postgres tells no zero from another.
  real: fc.double({ noNaN: true }).map((any) => any + 0),
  big: fc.bigInt({ min: -(2n ** 63n), max: 2n ** 63n - 1n }),
  at: date,
  day: fc.option(date.map((any) => any.toISOString().slice(0, 10))),
});

test("Postgres reads from the arrays of columns what was put into them, whatever it looks like and however much it is", async () => {
  await fc.assert(
    fc.asyncProperty(fc.array(row, { size: "+1" }), async (rows) => {
      const echoed = await db.query<Row>(echo, columns.collect(rows).values());
      expect(echoed.map((each) => ({ ...each, bytes: [...each.bytes] }))).toEqual(
        rows.map((each) => ({ ...each, bytes: [...each.bytes] })),
      );
    }),
  );
});

test("a statement may be sent again, with more rows", async () => {
  const [first, second] = fc.sample(row, { numRuns: 2, seed: 1 }) as [Row, Row];
  const collected = columns.collect([first]);
  expect(await db.query(echo, collected.values())).toHaveLength(1);
  collected.add(second);
  expect(await db.query<Row>(echo, collected.values())).toMatchObject([{ id: first.id }, { id: second.id }]);
});

test.each([
  ["id", "3f333df6-90a4-4fda-8dd3-9485d27cee3"],
  ["id", "not-a-uuid"],
  ["day", "tomorrow"],
])("a value that is none of its column's type is refused, not changed: %s %s", (field, value) => {
  const [some] = fc.sample(row, 1);
  expect(() => columns.collect([{ ...some, [field]: value } as Row])).toThrow(TypeError);
});

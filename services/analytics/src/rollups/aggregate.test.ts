import fc from "fast-check";
import { expect, test } from "vitest";
import { createAggregate, createBulkAggregate } from "./aggregate.ts";
import { slotOf } from "./slots.ts";

const slot = fc.integer({ min: slotOf(Date.UTC(2023, 0, 1)), max: slotOf(Date.UTC(2027, 0, 1)) });
const facts = fc.array(fc.tuple(slot, fc.bigInt({ min: -100n, max: 100n })), { maxLength: 40 });

test("an aggregate of a whole log has the rows that one of a batch has", () => {
  const rowsOf = (aggregate: Pick<ReturnType<typeof createAggregate>, "atInstant" | "onDate" | "rows">, facts: [number, bigint][]) => {
    for (const [at, amount] of facts) {
      for (const measure of ["patients.registered", "patients.registered.city"]) aggregate.atInstant(measure, "Köln", at * 900_000, amount);
      aggregate.onDate("patients.active.born", "female", Math.floor(at / 96) * 86_400_000, amount);
    }
    const key = (row: object) => JSON.stringify(row, (_, value) => (typeof value === "bigint" ? String(value) : value));
    return [...aggregate.rows()].map(key).sort();
  };
  fc.assert(
    fc.property(facts, (facts) => {
      expect(rowsOf(createBulkAggregate(), facts)).toEqual(rowsOf(createAggregate(), facts));
    }),
  );
});

test("what adds up to nothing leaves nothing", () => {
  const aggregate = createAggregate();
  aggregate.atInstant("m", "v", 0, 5n);
  aggregate.atInstant("m", "v", 0, -5n);
  expect([...aggregate.rows()]).toEqual([]);
  expect(aggregate.size).toBe(0);
});

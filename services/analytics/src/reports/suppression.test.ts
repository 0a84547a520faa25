import fc from "fast-check";
import { expect, test } from "vitest";
import { largestHidden, type Shown, suppressList, suppressTable } from "./suppression.ts";

const count = fc.oneof(fc.constant(0), fc.integer({ min: 1, max: 12 }), fc.integer({ min: 0, max: 500 }));

/**
 * Every table with the same shown cells and the same sums of rows (and, where there are several, of columns): what a
 * reader has to choose from.
 */
function candidates(table: number[][], shown: Shown[][]): number[][][] {
  const isList = table.length === 1;
  const sum = (values: (number | undefined)[]) => values.reduce<number>((total, value) => total + (value ?? 0), 0);
  const columnSums = (rows: number[][]) => (table[0] ?? []).map((_, c) => sum(rows.map((row) => row[c])));
  const wanted = columnSums(table).join();
  /** Every row with the same sum as this one that could stand there. */
  const rowsLike = (row: number[], visible: Shown[]): number[][] => {
    let partial: { row: number[]; left: number }[] = [{ row: [], left: sum(row) - sum(visible.map((value) => value ?? 0)) }];
    for (const [c, value] of visible.entries()) {
      const isLast = !visible.slice(c + 1).includes(null);
      partial = partial.flatMap(({ row, left }) => {
        if (value !== null) return [{ row: [...row, value], left }];
        const choices = isLast ? [left] : Array.from({ length: left + 1 }, (_, choice) => choice);
        return choices.map((choice) => ({ row: [...row, choice], left: left - choice }));
      });
    }
    return partial.map(({ row }) => row);
  };
  let tables: number[][][] = [[]];
  for (const [r, row] of table.entries()) {
    const choices = rowsLike(row, shown[r] ?? []);
    tables = tables.flatMap((rows) => choices.map((choice) => [...rows, choice])).slice(0, 200_000);
  }
  return isList ? tables : tables.filter((rows) => columnSums(rows).join() === wanted);
}

function expectNothingFollows(table: number[][], shown: Shown[][], options: number[][][]): void {
  for (const [r, row] of shown.entries())
    for (const [c, value] of row.entries()) {
      if (value !== null) continue;
      const values = new Set(options.map((option) => option[r]?.[c]));
      expect(values.size, `${JSON.stringify(table)} ${JSON.stringify(shown)} ${r},${c}`).toBeGreaterThan(1);
    }
}

test("no count from 1 to 10 is shown, and what is shown is true", () => {
  fc.assert(
    fc.property(fc.array(count, { minLength: 1, maxLength: 30 }), (counts) => {
      suppressList(counts).forEach((shown, index) => {
        if (shown === null) return;
        expect(shown).toBe(counts[index]);
        expect(shown === 0 || shown > largestHidden).toBe(true);
      });
    }),
  );
});

test("no hidden cell of a list follows from the total, even for a reader who knows how cells are hidden", { timeout: 30_000 }, () => {
  fc.assert(
    fc.property(fc.array(fc.oneof(fc.constant(0), fc.integer({ min: 0, max: 14 })), { minLength: 2, maxLength: 4 }), (counts) => {
      const shown = suppressList(counts);
      // Only lists that would have been shown just so are left to choose from.
      const options = candidates([counts], [shown]).filter(
        ([option = []]) => JSON.stringify(suppressList(option)) === JSON.stringify(shown),
      );
      expectNothingFollows([counts], [shown], options);
    }),
    { numRuns: 500 },
  );
});

test("no hidden cell of a table follows from the sums of its rows and columns", { timeout: 30_000 }, () => {
  const small = fc.oneof(fc.constant(0), fc.integer({ min: 0, max: 25 }));
  fc.assert(
    fc.property(
      fc
        .integer({ min: 2, max: 3 })
        .chain((width) => fc.array(fc.array(small, { minLength: width, maxLength: width }), { minLength: 2, maxLength: 2 })),
      (table) => {
        const shown = suppressTable(table);
        // Where no cell is left to hide, only the sums speak, and they hide their own small ones.
        if (shown.flat().every((value) => value === null)) return;
        expectNothingFollows(table, shown, candidates(table, shown));
      },
    ),
    { numRuns: 500 },
  );
});

test("what is hidden beside a small count adds up to more than a small count", () => {
  fc.assert(
    fc.property(fc.array(count, { minLength: 2, maxLength: 20 }), (counts) => {
      const shown = suppressList(counts);
      const hidden = counts.filter((_, index) => shown[index] === null);
      const sum = hidden.reduce((total, value) => total + value, 0);
      if (hidden.length > 0 && shown.some((value) => value !== null && value > 0)) expect(sum).toBeGreaterThan(largestHidden);
    }),
  );
});

test("a lone small count takes the next smallest with it, and large ones stay", () => {
  expect(suppressList([4, 300, 20, 0])).toEqual([null, 300, null, 0]);
  expect(suppressList([40, 300, 20, 0])).toEqual([40, 300, 20, 0]);
  expect(suppressList([1, 0])).toEqual([null, null]);
  expect(suppressList([1, 0, 1])).toEqual([null, null, null]);
});

/**
 * Hides small counts: "one patient of 90 or older in a village" is a person. To hide only these is not enough, because
 * a reader can subtract the other counts from a sum. So further cells are hidden until no hidden cell follows from what
 * is shown. Readers are assumed to know every sum of a row and of a column, whether it is shown or not.
 */

/** Counts from 1 to this one are hidden. */
export const largestHidden = 10;

/** A count, or null if it is hidden. */
export type Shown = number | null;

/** What is shown of a table. The sums of its rows and columns are known. A table of one row is a list. */
export function suppressTable(table: readonly (readonly number[])[]): Shown[][] {
  const hidden = table.map((row) => row.map((count) => count >= 1 && count <= largestHidden));
  for (const line of linesOf(table)) coverLine(table, hidden, line);
  // To hide a cell in one line may leave it the only hidden cell of another line: repeat until nothing changes.
  for (let changed = true; changed; ) {
    changed = false;
    for (const line of linesOf(table)) if (coverLine(table, hidden, line)) changed = true;
    const bare = unprotected(table, hidden);
    if (!changed && bare && hideOneMore(table, hidden, bare)) changed = true;
  }
  return table.map((row, r) => row.map((count, c) => (hidden[r]?.[c] ? null : count)));
}

/** What is shown of a list. Its sum is known. */
export function suppressList(counts: readonly number[]): Shown[] {
  return suppressTable([counts])[0] ?? [];
}

type Cell = readonly [row: number, column: number];
type Table = readonly (readonly number[])[];
type Hidden = boolean[][];

const at = (table: Table, [r, c]: Cell) => table[r]?.[c] ?? 0;

function linesOf(table: Table): Cell[][] {
  const width = table[0]?.length ?? 0;
  const rows = table.map((row, r) => row.map((_, c): Cell => [r, c]));
  if (table.length === 1) return rows;
  return [...rows, ...Array.from({ length: width }, (_, c) => table.map((_, r): Cell => [r, c]))];
}

/**
 * A reader knows the sum of the hidden cells of a line: it is the sum of the line, less the shown cells. So a larger
 * count or a zero is hidden with the small ones, until their sum is above a small count. Cells with equal values are
 * hidden together. Then the hidden values could be in any other order, and the line would look the same. They are not
 * all equal, so none of them follows, even for a reader who knows this algorithm.
 * @returns whether it hid a cell
 */
function coverLine(table: Table, hidden: Hidden, line: Cell[]): boolean {
  let changed = false;
  for (;;) {
    const covered = line.filter(([r, c]) => hidden[r]?.[c]).map((cell) => at(table, cell));
    const sum = covered.reduce((total, value) => total + value, 0);
    const isMixed = covered.some((value) => value === 0 || value > largestHidden);
    if (covered.length === 0 || (isMixed && covered.length > 1 && sum > largestHidden)) return changed;
    const next = cheapest(table, hidden, line);
    if (next.length === 0) return changed;
    for (const cell of next) hide(hidden, cell);
    changed = true;
  }
}

/** What to hide next: all shown cells with the smallest value above 0; if there is none, all zeros. */
function cheapest(table: Table, hidden: Hidden, cells: Cell[]): Cell[] {
  const shown = cells.filter(([r, c]) => !hidden[r]?.[c]);
  const smallest = shown.reduce(
    (least, cell) => (at(table, cell) > 0 ? Math.min(least, at(table, cell)) : least),
    Number.POSITIVE_INFINITY,
  );
  const equal = shown.filter((cell) => at(table, cell) === smallest);
  return equal.length > 0 ? equal : shown;
}

function hide(hidden: Hidden, [r, c]: Cell): void {
  const row = hidden[r];
  if (row) row[c] = true;
}

/**
 * A hidden cell whose value follows from the sums. It does not follow if another table has the same sums and shown
 * cells. There is one if a cycle of hidden cells can change: up one cell, down the next, and no count falls below 0.
 */
function unprotected(table: Table, hidden: Hidden): Cell | undefined {
  const cells = hidden.flatMap((row, r) => row.flatMap((isHidden, c): Cell[] => (isHidden ? [[r, c]] : [])));
  // A single row has no columns with sums, and coverLine has protected the row.
  if (table.length === 1) return undefined;
  return cells.find(([r, c]) => {
    const up = canShift(table, hidden, r, c);
    const down = at(table, [r, c]) > 0 && canShift(table, hidden, r, c, true);
    return !up && !down;
  });
}

/** Whether a cell can go up (or down) by one, and others compensate it: a path from its column back to its row. */
function canShift(table: Table, hidden: Hidden, row: number, column: number, down = false): boolean {
  // A cell on the way from a column to a row changes against the first cell, one from a row to a column changes with
  // it.
  const rows = new Set<number>();
  const columns = [column];
  const seen = new Set(columns);
  for (const c of columns) {
    for (let r = 0; r < table.length; r++) {
      if (rows.has(r) || !hidden[r]?.[c] || (r === row && c === column)) continue;
      if (!down && at(table, [r, c]) === 0) continue;
      if (r === row) return true;
      rows.add(r);
      for (let next = 0; next < (table[r]?.length ?? 0); next++) {
        if (seen.has(next) || !hidden[r]?.[next] || next === c) continue;
        if (down && at(table, [r, next]) === 0) continue;
        seen.add(next);
        columns.push(next);
      }
    }
  }
  return false;
}

function hideOneMore(table: Table, hidden: Hidden, [row, column]: Cell): boolean {
  const lines = linesOf(table).filter((line) => line.some(([r, c]) => r === row || c === column));
  const next = cheapest(table, hidden, lines.flat());
  for (const cell of next) hide(hidden, cell);
  return next.length > 0;
}

/**
 * Small counts are hidden, because "one patient of 90 or older in a village" is a person. Hiding only them would not do: a
 * sum beside them gives them away, so further cells are hidden until no hidden one can be computed from what is shown.
 * Whoever reads is assumed to know every sum of a row and of a column, whether it is shown or not.
 */

/** Counts from 1 to this are hidden. */
export const largestHidden = 10;

/** A count, or null where it is hidden. */
export type Shown = number | null;

/** The cells of a table whose rows and columns add up to known sums. A list is a table of one row. */
export function suppressTable(table: readonly (readonly number[])[]): Shown[][] {
  const hidden = table.map((row) => row.map((count) => count >= 1 && count <= largestHidden));
  for (const line of linesOf(table)) coverLine(table, hidden, line);
  // A cover in one line may leave a lone hidden cell in another: go round until nothing changes.
  for (let changed = true; changed; ) {
    changed = false;
    for (const line of linesOf(table)) if (coverLine(table, hidden, line)) changed = true;
    const bare = unprotected(table, hidden);
    if (!changed && bare && hideOneMore(table, hidden, bare)) changed = true;
  }
  return table.map((row, r) => row.map((count, c) => (hidden[r]?.[c] ? null : count)));
}

/** The cells of a list whose sum is known. */
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
 * In a line, what is hidden adds up to the line's sum less what is shown. So beside small counts always something else is
 * hidden, and together they are more than a small count. All cells of a value are hidden or none: then the hidden values
 * could change places and the line would look the same, and since they are not all equal, none of them follows, not even for
 * a reader of this file. Says whether it hid something.
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

/** What to hide next: all shown cells of the smallest value above zero, or all zeros where there is none. */
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
 * A hidden cell whose value follows from the sums. It does not follow where another table has the same sums and shown cells:
 * that is, where a closed walk through hidden cells, up one and down the next, can change the cell without a count below zero.
 */
function unprotected(table: Table, hidden: Hidden): Cell | undefined {
  const cells = hidden.flatMap((row, r) => row.flatMap((isHidden, c): Cell[] => (isHidden ? [[r, c]] : [])));
  // One row has no columns' sums to follow from; coverLine has seen to it.
  if (table.length === 1) return undefined;
  return cells.find(([r, c]) => {
    const up = canShift(table, hidden, r, c);
    const down = at(table, [r, c]) > 0 && canShift(table, hidden, r, c, true);
    return !up && !down;
  });
}

/** Whether the cell can go one up (or down) while others make up for it: a path from its column back to its row. */
function canShift(table: Table, hidden: Hidden, row: number, column: number, down = false): boolean {
  // From a column we go to a row by a cell that changes against the first one, from a row to a column by one that changes with it.
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

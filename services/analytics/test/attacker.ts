/**
 * Somebody who knows every published figure and how figures follow from what was counted, and asks a solver for integer
 * programs for the smallest and the largest value that a number can have.
 */
import highs from "highs";
import type { Figure } from "../src/publications/types.ts";

/** What a week has published of a number; undefined is none, if it is a total, and withheld, if it is a part. */
type Row = Pick<Figure, "shown" | "amount"> | undefined;

type Question = {
  weeks: number;
  /** What each total is broken down by, with every value. */
  totals: Record<string, Record<string, string[]>>;
  /** Totals without parts. */
  alone?: string[];
  rowOf: (measure: string, value: string, week: number) => Row;
  truth: (measure: string, value: string, week: number) => number;
};

/** What is left to choose from for a number. */
type Bounds = { least: number; greatest: number };
/** A number of 1 to 10 that has one value left. */
type Found = { measure: string; value: string; from: number; to: number; count: number };

export async function createAttacker() {
  // The types of the package are those of CommonJS, where the loader is a member.
  const { solve } = await (highs as unknown as typeof highs.default)();

  /** The smallest or the largest sum of variables that satisfies all constraints. */
  function bound(direction: "Minimize" | "Maximize", sum: string[], { constraints, names, most }: Model): number {
    const problem = [
      direction,
      ` goal: ${sum.join(" + ")}`,
      "Subject To",
      ...constraints.map((constraint, index) => ` c${index}: ${constraint}`),
      "Bounds",
      ...names.map((name) => ` 0 <= ${name} <= ${most}`),
      "General",
      ` ${names.join(" ")}`,
      "End",
    ].join("\n");
    const { Status, ObjectiveValue } = solve(problem);
    if (Status !== "Optimal") throw new Error(`the solver answers ${Status}:\n${problem}`);
    return Math.round(ObjectiveValue);
  }

  /** The counts from 1 to 10 of any weeks that follow from what is published. */
  function attack({ weeks, totals, alone = [], rowOf, truth }: Question): Found[] {
    // No week counts more than this of anything.
    const model: Model = { constraints: [], names: [], most: 200 };
    const unknown: { measure: string; value: string; names: string[] }[] = [];
    const allWeeks = Array.from({ length: weeks }, (_, week) => week);
    const add = (measure: string, value: string, rows: Row[], isTotal: boolean): string[] => {
      const names = allWeeks.map((week) => `x${unknown.length}w${week}`);
      unknown.push({ measure, value, names });
      model.names.push(...names);
      model.constraints.push(...constraintsOf(names, rows, isTotal));
      return names;
    };
    const rowsOf = (measure: string, value: string) => allWeeks.map((week) => rowOf(measure, value, week));
    for (const measure of alone) add(measure, "", rowsOf(measure, ""), true);
    for (const [total, lines] of Object.entries(totals)) {
      const ofTotal = add(total, "", rowsOf(total, ""), true);
      for (const [measure, values] of Object.entries(lines)) {
        const parts = values.map((value) => add(measure, value, rowsOf(measure, value), false));
        for (const [week, name] of ofTotal.entries()) model.constraints.push(`${parts.map((own) => own[week]).join(" + ")} - ${name} = 0`);
      }
    }
    const found: Found[] = [];
    for (const { measure, value, names } of unknown)
      for (const { from, to } of windowsOf(weeks)) {
        const count = allWeeks.slice(from, to + 1).reduce((sum, week) => sum + truth(measure, value, week), 0);
        if (count < 1 || count > 10) continue;
        const sum = names.slice(from, to + 1);
        const greatest = bound("Maximize", sum, model);
        if (greatest < count) throw new Error(`${measure} ${value} is ${count}, and at most ${greatest} by what is published`);
        if (greatest === count && bound("Minimize", sum, model) === count) found.push({ measure, value, from, to, count });
      }
    return found;
  }

  /** What is left to choose from for the amounts of each account in any weeks, from the amounts of all together. */
  function attackAmounts(accounts: number, rows: Row[]): { account: number; from: number; to: number; bounds: Bounds }[] {
    const model: Model = { constraints: [], names: [], most: 100_000 };
    const nameOf = (account: number, week: number) => `a${account}w${week}`;
    const everyone = Array.from({ length: accounts }, (_, account) => account);
    const groups = rows.map((_, week) => everyone.map((account) => nameOf(account, week)).join(" + "));
    model.names.push(...rows.flatMap((_, week) => everyone.map((account) => nameOf(account, week))));
    model.constraints.push(...constraintsOf(groups, rows, false));
    return everyone.flatMap((account) =>
      windowsOf(rows.length).map(({ from, to }) => {
        const sum = rows.slice(from, to + 1).map((_, index) => nameOf(account, from + index));
        return { account, from, to, bounds: { least: bound("Minimize", sum, model), greatest: bound("Maximize", sum, model) } };
      }),
    );
  }
  return { attack, attackAmounts };
}

type Model = { constraints: string[]; names: string[]; most: number };

function windowsOf(weeks: number): { from: number; to: number }[] {
  return Array.from({ length: weeks }, (_, from) =>
    Array.from({ length: weeks - from }, (_, length) => ({ from, to: from + length })),
  ).flat();
}

/** What is known of a number: the sum of each stretch of weeks that ends with a figure that is shown. */
function constraintsOf(names: string[], rows: Row[], isTotal: boolean): string[] {
  const constraints: string[] = [];
  let first = 0;
  for (const [week, row] of rows.entries()) {
    const sum = names.slice(first, week + 1).join(" + ");
    if (isTotal ? row?.shown === false : !row?.shown) {
      // A total waits only if it is small.
      if (isTotal) constraints.push(`${sum} >= 1`, `${sum} <= 10`);
      continue;
    }
    constraints.push(`${sum} = ${row?.amount ?? 0n}`);
    first = week + 1;
  }
  return constraints;
}

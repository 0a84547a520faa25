/** Sums that a report reads, added up without loss. */

/** Sums by measure and value; 0 for what never happened. */
export type Amounts = {
  /** Exact, however large it is. */
  of(measure: string, value?: string): bigint;
  /** As a number, for what is counted one by one: no count comes near to what a number holds exactly. */
  count(measure: string, value?: string): number;
  counts(measure: string): [value: string, count: number][];
};

export const noAmounts: Amounts = { of: () => 0n, count: () => 0, counts: () => [] };

/** An amount is a number if that holds it exactly. */
export type Amount = number | bigint;

/** Reads amounts with commas between them. */
export function parseAmounts(text: string): Amount[] {
  if (/\d{16}/.test(text)) return text.split(",").map(BigInt);
  return JSON.parse(`[${text}]`) as number[];
}

/**
 * One sum per span of a report. A report of a year adds up thousands of amounts, and bigints take five times as long as
 * numbers: so they add up only what goes beyond the integers that a number holds exactly.
 */
class Column {
  readonly #sums: Float64Array;
  readonly #beyond = new Map<number, bigint>();

  constructor(length: number) {
    this.#sums = new Float64Array(length);
  }

  add(index: number, amount: Amount): void {
    const sum = typeof amount === "number" ? (this.#sums[index] ?? 0) + amount : Number.NaN;
    if (Number.isSafeInteger(sum)) this.#sums[index] = sum;
    else this.#beyond.set(index, (this.#beyond.get(index) ?? 0n) + BigInt(amount));
  }

  at(index: number): bigint {
    return BigInt(this.#sums[index] ?? 0) + (this.#beyond.get(index) ?? 0n);
  }
}

/** The sums of a report: a column for each measure and value. */
export class Columns {
  readonly #length: number;
  readonly #columns = new Map<string, Map<string, Column>>();

  constructor(length: number) {
    this.#length = length;
  }

  /** The column of a measure and value, to add to. */
  of(measure: string, value: string): Column {
    const byValue = this.#columns.get(measure) ?? new Map<string, Column>();
    this.#columns.set(measure, byValue);
    const column = byValue.get(value) ?? new Column(this.#length);
    byValue.set(value, column);
    return column;
  }

  /** What was added, one for each span. */
  amounts(): Amounts[] {
    return Array.from({ length: this.#length }, (_, index) => new SegmentSums(this.#columns, index));
  }
}

/** The sums of one span. It is a class because a report of a year has a thousand of them. */
class SegmentSums implements Amounts {
  readonly #columns: Map<string, Map<string, Column>>;
  readonly #index: number;

  constructor(columns: Map<string, Map<string, Column>>, index: number) {
    this.#columns = columns;
    this.#index = index;
  }

  of(measure: string, value = ""): bigint {
    return this.#columns.get(measure)?.get(value)?.at(this.#index) ?? 0n;
  }

  count(measure: string, value = ""): number {
    return Number(this.of(measure, value));
  }

  counts(measure: string): [value: string, count: number][] {
    return [...(this.#columns.get(measure) ?? [])].flatMap(([value, column]): [string, number][] => {
      const count = Number(column.at(this.#index));
      return count === 0 ? [] : [[value, count]];
    });
  }
}

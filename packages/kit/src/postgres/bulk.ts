/**
 * Rows on their way into a statement: an array for each column, in the binary format of Postgres's protocol. A row of thirty
 * columns takes Postgres 10 µs to read so and 30 as JSON, and rows that wait to be sent are bytes, which V8's collectors
 * neither look through nor copy.
 *
 * The format is the one of `array_recv` in Postgres's source, and of the `recv` function of each type: how many dimensions,
 * whether there are nulls, the type, the length of the one dimension and its lower bound; then of each element its length, or
 * -1 for null, and its bytes. Numbers are big-endian.
 */

/** Midnight of 2000-01-01 in UTC, from which Postgres counts, in milliseconds of Unix time. */
const epoch = Date.UTC(2000, 0, 1);
const dayMs = 86_400_000;

/** `most` is how many bytes a value takes at most; `write` gives how many it took. */
type Type<Value> = { oid: number; most(value: Value): number; write(buffer: Buffer, value: Value, at: number): number };

const text = (oid: number): Type<string> => ({
  oid,
  most: (value) => value.length * 3,
  write: (buffer, value, at) => buffer.write(value, at),
});

const types = {
  /** In the usual form, with its hyphens. */
  uuid: {
    oid: 2950,
    most: () => 16,
    write(buffer, value, at) {
      const written = buffer.write(value.replaceAll("-", ""), at, "hex");
      if (written !== 16) throw new TypeError("a value for a column of UUIDs is none");
      return written;
    },
  } satisfies Type<string>,
  text: text(25),
  /** As text. */
  json: text(114),
  bytea: {
    oid: 17,
    most: (value) => value.length,
    write(buffer, value, at) {
      buffer.set(value, at);
      return value.length;
    },
  } satisfies Type<Uint8Array>,
  boolean: { oid: 16, most: () => 1, write: (buffer, value, at) => buffer.writeUInt8(Number(value), at) - at } satisfies Type<boolean>,
  smallint: { oid: 21, most: () => 2, write: (buffer, value, at) => buffer.writeInt16BE(value, at) - at } satisfies Type<number>,
  integer: { oid: 23, most: () => 4, write: (buffer, value, at) => buffer.writeInt32BE(value, at) - at } satisfies Type<number>,
  bigint: { oid: 20, most: () => 8, write: (buffer, value, at) => buffer.writeBigInt64BE(value, at) - at } satisfies Type<bigint>,
  /** A `Date`, or milliseconds of Unix time. */
  timestamptz: {
    oid: 1184,
    most: () => 8,
    write: (buffer, value, at) => buffer.writeBigInt64BE(BigInt(Number(value) - epoch) * 1_000n, at) - at,
  } satisfies Type<Date | number>,
  /** `YYYY-MM-DD`. */
  date: {
    oid: 1082,
    most: () => 4,
    write(buffer, value, at) {
      const days = (Date.parse(value) - epoch) / dayMs;
      if (!Number.isInteger(days)) throw new TypeError("a value for a column of dates is none");
      return buffer.writeInt32BE(days, at) - at;
    },
  } satisfies Type<string>,
};

type Types = typeof types;
type Value<Name extends keyof Types> = Parameters<Types[Name]["write"]>[1];

/** The type of a column, and its value in a row; null and undefined are both NULL. */
export type Column<Row> = { [Name in keyof Types]: readonly [Name, (row: Row) => Value<Name> | null | undefined] }[keyof Types];

/** Rows that are being collected. */
export type Rows<Row> = {
  readonly length: number;
  add(row: Row): void;
  /** A value for each parameter of the source, in order. They are overwritten when rows are added after `clear`. */
  values(): Buffer[];
  /** Forgets the rows and keeps their memory for the next ones. */
  clear(): void;
};

export type BulkInput<Row> = {
  /** What a statement selects from, under this name: `unnest($1::uuid[], …) as input("id", …)`. Its parameters are counted from `first`. */
  source(alias: string, first?: number): string;
  /** How many parameters there are: one for each column. */
  readonly count: number;
  collect(rows?: Iterable<Row>): Rows<Row>;
};

/** @throws TypeError, when rows are added, for a value that is none of its column's type. */
export function defineBulkInput<Row>(columns: { [name: string]: Column<Row> }): BulkInput<Row> {
  const names = Object.keys(columns);
  const all = Object.values(columns);
  return {
    source(alias, first = 1) {
      const arrays = all.map(([type], index) => `$${first + index}::${type}[]`);
      return `unnest(${arrays.join(", ")}) as ${alias}(${names.map((name) => `"${name}"`).join(", ")})`;
    },
    count: all.length,
    collect(rows = []) {
      const arrays = all.map(([type, valueIn]) => ({ ...collectArray(types[type] as Type<unknown>), valueIn }));
      let length = 0;
      const collected: Rows<Row> = {
        get length() {
          return length;
        },
        add(row) {
          for (const array of arrays) array.add(array.valueIn(row));
          length += 1;
        },
        values: () => arrays.map(({ bytes }) => bytes(length)),
        clear() {
          for (const array of arrays) array.clear();
          length = 0;
        },
      };
      for (const row of rows) collected.add(row);
      return collected;
    },
  };
}

const headerBytes = 20;
const firstBytes = 512;

type CollectedArray<Value> = { add(value: Value | null | undefined): void; bytes(count: number): Buffer; clear(): void };

function collectArray<Value>({ oid, most, write }: Type<Value>): CollectedArray<Value> {
  let buffer = Buffer.allocUnsafe(firstBytes);
  let end = headerBytes;
  let hasNulls = false;
  return {
    add(value) {
      const isNull = value === null || value === undefined;
      const needed = end + 4 + (isNull ? 0 : most(value));
      if (needed > buffer.length) {
        const larger = Buffer.allocUnsafe(Math.max(needed, buffer.length * 2));
        buffer.copy(larger, 0, 0, end);
        buffer = larger;
      }
      const written = isNull ? 0 : write(buffer, value, end + 4);
      buffer.writeInt32BE(isNull ? -1 : written, end);
      end += 4 + written;
      hasNulls ||= isNull;
    },
    bytes(count) {
      [1, Number(hasNulls), oid, count, 1].forEach((number, index) => {
        buffer.writeInt32BE(number, index * 4);
      });
      return buffer.subarray(0, end);
    },
    clear() {
      [end, hasNulls] = [headerBytes, false];
    },
  };
}

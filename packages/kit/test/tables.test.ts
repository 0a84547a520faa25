import type { ColumnType, Generated, GeneratedAlways } from "kysely";
import { expect, test } from "vitest";
import type { TableDescriptions } from "./tables.ts";

type Tables = {
  users: {
    id: GeneratedAlways<bigint>;
    name: string;
    nickname: string | null;
    roles: string[];
    role: "admin" | "user";
    settings: ColumnType<unknown, string, never>;
    created_at: Generated<Date>;
    ended_at: Generated<Date> | null;
    words: ColumnType<never, never, never>;
  };
  teams: { id: string };
};

const users = {
  id: "bigint generated",
  name: "text",
  nickname: "text null",
  roles: "text[]",
  role: "text",
  settings: "jsonb",
  created_at: "timestamptz default",
  ended_at: "timestamptz null default",
  words: "tsvector",
} as const;
const tables = { users, teams: { id: "uuid" } } as const satisfies TableDescriptions<Tables>;

test("a description compiles where it has every table and every column with its type, and nowhere else", () => {
  const { teams } = tables;
  const wrong: TableDescriptions<Tables>[] = [
    // @ts-expect-error a table is missing
    { users },
    // @ts-expect-error a column is missing
    { users, teams: {} },
    // @ts-expect-error a column that the types do not have
    { users, teams: { id: "uuid", name: "text" } },
    // @ts-expect-error another type
    { teams, users: { ...users, name: "bigint" } },
    // @ts-expect-error null is not in the types
    { teams, users: { ...users, name: "text null" } },
    // @ts-expect-error null is in the types
    { teams, users: { ...users, nickname: "text" } },
    // @ts-expect-error the default is in the types
    { teams, users: { ...users, created_at: "timestamptz" } },
    // @ts-expect-error an insert may not give it
    { teams, users: { ...users, id: "bigint default" } },
  ];
  expect(wrong).toHaveLength(8);
});

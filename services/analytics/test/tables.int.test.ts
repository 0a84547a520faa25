import { auditTables, checkTables, deadLetterTables, outboxTables, readTables, type TableDescriptions } from "@pm/kit/test/tables";
import { expect, test } from "vitest";
import type { Tables } from "../src/tables.ts";

test("the types of the tables match the migrations", async () => {
  const tables: TableDescriptions<Tables> = {
    ...auditTables,
    ...checkTables,
    ...deadLetterTables,
    ...outboxTables,
    events: {
      event_id: "uuid",
      seq: "bigint generated",
      stream: "text",
      subject: "uuid null",
      related: "uuid null",
      version: "bigint",
      occurred_at: "timestamptz",
      payload: "bytea",
      topic: "text",
      partition: "integer",
      offset: "bigint",
      received_at: "timestamptz default",
    },
    rollups: {
      generation: "smallint",
      measure: "text",
      grain: "smallint",
      slot: "integer",
      value: "text",
      amount: "bigint",
      by_quarter: "bigint[] null",
    },
    rollup_state: { only_one: "boolean default", generation: "smallint", rebuilt_at: "timestamptz null" },
    rebuilds: {
      id: "bigint generated",
      state: "text default",
      events_done: "bigint default",
      events_total: "bigint default",
      requested_at: "timestamptz default",
      started_at: "timestamptz null",
      finished_at: "timestamptz null",
    },
    publications: { week: "date", until: "timestamptz", seq: "bigint", published_at: "timestamptz default" },
    publication_figures: {
      week: "date",
      measure: "text",
      value: "text",
      amount: "numeric",
      since: "date null",
      shown: "boolean",
    },
    publication_accounts: { measure: "text", value: "text", account: "uuid", amount: "numeric" },
    erasures: { patient_id: "uuid", erasure_id: "uuid", erased_at: "timestamptz default", removed: "jsonb default" },
    watermarks: { topic: "text", partition: "integer", next_offset: "bigint", event_time: "timestamptz" },
  };
  expect(await readTables("analytics")).toEqual(tables);
});

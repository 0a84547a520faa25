import { auditTables, outboxTables, readTables, type TableDescriptions } from "@pm/kit/test/tables";
import { expect, test } from "vitest";
import type { Tables } from "../src/tables.ts";

test("the types of the tables match the migrations", async () => {
  const tables: TableDescriptions<Tables> = {
    ...auditTables,
    ...outboxTables,
    patients: {
      id: "uuid",
      version: "bigint",
      name: "text",
      first_name: "text null",
      last_name: "text null",
      email: "text",
      phone_number: "text null",
      date_of_birth: "date",
      address_text: "text",
      street: "text null",
      city: "text null",
      state: "text null",
      zip_code: "text null",
      sex: "text null",
      registered_date: "date",
      registered_by: "text",
      created_at: "timestamptz",
      updated_at: "timestamptz",
      deleted_at: "timestamptz null",
      words: "tsvector",
    },
    patient_words: { word: "text" },
    patient_versions: {
      patient_id: "uuid",
      version: "bigint",
      action: "text",
      changed_at: "timestamptz",
      changed_by: "text",
      record: "json",
    },
    patient_access: {
      patient_id: "uuid",
      principal: "text",
      granted_by: "text",
      granted_at: "timestamptz default",
      can_write: "boolean default",
    },
    patient_billing: { patient_id: "uuid", account_id: "uuid null", attempts: "integer default", next_attempt_at: "timestamptz null" },
    idempotency_keys: { caller: "text", key: "text", request_hash: "bytea", patient_id: "uuid", created_at: "timestamptz default" },
    imports: {
      id: "uuid",
      caller: "text",
      key: "text null",
      dry_run: "boolean",
      lines: "bigint default",
      created: "bigint default",
      failed: "bigint default",
      prefix_hash: "bytea",
      finished: "boolean default",
      updated_at: "timestamptz default",
    },
    import_errors: { import_id: "uuid", line: "bigint", errors: "jsonb" },
    conflict_limits: { caller: "text", told_at: "timestamptz[] default" },
    import_emails: { import_id: "uuid", email_hash: "bytea" },
  };
  expect(await readTables("patient")).toEqual(tables);
});

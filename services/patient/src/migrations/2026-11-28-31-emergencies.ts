/** Records that were opened in an emergency, by people without a grant. Rows are only added. */
import { type Kysely, sql } from "kysely";

export async function up(db: Kysely<unknown>): Promise<void> {
  await sql`
    create table emergency_accesses (
      id uuid primary key default uuidv7(),
      patient_id uuid not null references patients,
      user_id text not null,
      reason text not null,
      request_id text not null,
      opened_at timestamptz not null default now(),
      expires_at timestamptz not null
    )`.execute(db);
  await sql`create index emergency_accesses_by_user on emergency_accesses (user_id, patient_id, expires_at)`.execute(db);
  await sql`create index emergency_accesses_by_patient on emergency_accesses (patient_id)`.execute(db);
  await sql`grant select, insert on emergency_accesses to ${sql.ref("patient")}`.execute(db);
}

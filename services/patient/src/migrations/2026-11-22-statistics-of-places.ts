/**
 * How many patients live in a city, for the planner. It knows that of the expression in `patients_city` only where the
 * index has no condition; without it, it takes every city for a two-hundredth of all patients, and walks the index by
 * name for them.
 */
import { type Kysely, sql } from "kysely";

export async function up(db: Kysely<unknown>): Promise<void> {
  await sql`create statistics patients_cities on (lower(city)) from patients`.execute(db);
  await sql`create statistics patients_states on (lower(state)) from patients`.execute(db);
}

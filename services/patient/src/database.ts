/** The service's database, and who reads from it. */
import type { Database } from "@pm/kit/postgres/database";
import type { Tables } from "./tables.ts";

export type PatientDatabase = Database<Tables>;

/** Who reads, for the access rule: they see all, or what is theirs or shared with one of their principals. */
export type Viewer = { id: string; seesAll: boolean; principals: string[] };

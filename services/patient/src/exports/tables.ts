/** The table of exports. */
import type { Generated } from "kysely";

export type ExportTables = {
  patient_exports: {
    id: string;
    caller: string;
    team: string | null;
    cutoff: Date;
    snapshot: string;
    server: string;
    since: Date | null;
    since_snapshot: string | null;
    changed_after: Date | null;
    patients: Generated<bigint>;
    read_at: Date;
    finished_at: Date | null;
    cancelled_at: Date | null;
  };
};

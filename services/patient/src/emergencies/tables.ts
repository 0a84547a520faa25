/** The table of records that were opened in an emergency. */
import type { Generated } from "kysely";

export type EmergencyTables = {
  /** Rows are only added. */
  emergency_accesses: {
    id: Generated<string>;
    patient_id: string;
    user_id: string;
    reason: string;
    request_id: string;
    opened_at: Generated<Date>;
    expires_at: Date;
  };
};

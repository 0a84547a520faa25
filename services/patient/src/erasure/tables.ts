/** The tables of erasures and of what stops them. */
import type { Generated } from "kysely";

/** A service that has not done its part yet, and why. The reason has no words of an error, which may name somebody. */
export type Wait = { service: "patient" | "billing" | "analytics"; reason: string };

export type ErasureTables = {
  legal_holds: { patient_id: string; reason: string; placed_by: string; placed_at: Date };
  erasures: {
    id: string;
    patient_id: string;
    reason: string;
    requested_by: string;
    request_id: string;
    requested_at: Date;
    words: Generated<string[]>;
    keeps_record: Generated<boolean>;
    restricted_at: Date | null;
    record_erased_at: Date | null;
    removed: Generated<Record<string, number>>;
    billing_erased_at: Date | null;
    billing_removed: Generated<Record<string, number>>;
    analytics_erased_at: Date | null;
    analytics_removed: Generated<Record<string, number>>;
    attempts: Generated<number>;
    next_attempt_at: Date | null;
    /** Of the latest event that tells others; null in erasures of the release before. */
    event_id: string | null;
    waiting_since: Date | null;
    waits_for: Generated<Wait[]>;
  };
};

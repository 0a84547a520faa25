/** The tables as types. The migrations explain the columns. */
import type { AuditTables } from "@pm/kit/audit/audit";
import type { LocalDate } from "@pm/kit/calendar";
import type { CheckTables } from "@pm/kit/checks";
import type { DeadLetterTables } from "@pm/kit/kafka/dead-letter-store";
import type { OutboxTables } from "@pm/kit/kafka/outbox";
import type { Database } from "@pm/kit/postgres/database";
import type { Generated, GeneratedAlways, Kysely } from "kysely";
import type { Grain } from "./rollups/types.ts";

/** The topics that are read. The stream of an event decides how its payload is read. */
export const streams = ["patient.v1", "billing.v1", "auth.v1"] as const;
export type Stream = (typeof streams)[number];

type RebuildState = "waiting" | "running" | "done";

export type Tables = {
  events: {
    event_id: string;
    seq: GeneratedAlways<bigint>;
    stream: Stream;
    /** The patient whose numbers the event changes. */
    subject: string | null;
    /** The other patient of a merge. */
    related: string | null;
    version: bigint;
    occurred_at: Date;
    payload: Uint8Array;
    topic: string;
    partition: number;
    offset: bigint;
    received_at: Generated<Date>;
  };
  rollups: {
    generation: number;
    measure: string;
    grain: Grain;
    slot: number;
    value: string;
    amount: bigint;
    by_quarter: bigint[] | null;
  };
  rollup_state: { only_one: Generated<boolean>; generation: number; rebuilt_at: Date | null };
  rebuilds: {
    id: GeneratedAlways<bigint>;
    state: Generated<RebuildState>;
    events_done: Generated<bigint>;
    events_total: Generated<bigint>;
    requested_at: Generated<Date>;
    started_at: Date | null;
    finished_at: Date | null;
  };
  publications: { week: LocalDate; until: Date; seq: bigint; published_at: Generated<Date> };
  publication_figures: { week: LocalDate; measure: string; value: string; amount: string; since: LocalDate | null; shown: boolean };
  publication_accounts: { measure: string; value: string; account: string; amount: string };
  erasures: { patient_id: string; erasure_id: string; erased_at: Generated<Date>; removed: Generated<Record<string, number>> };
  watermarks: { topic: string; partition: number; next_offset: bigint; event_time: Date };
} & AuditTables &
  CheckTables &
  DeadLetterTables &
  OutboxTables;

export type AnalyticsDatabase = Database<Tables>;
/** The pool or a transaction. */
export type Db = Kysely<Tables>;

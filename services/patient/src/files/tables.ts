/** The tables of imports, and of files that are being carried. */
import type { ColumnType, Generated } from "kysely";

/** What an import does with patients who are there: `update` changes them, `upsert` creates the others too. */
export const importModes = ["create", "update", "upsert"] as const;
export type ImportMode = (typeof importModes)[number];

export type FileTables = {
  imports: {
    id: string;
    caller: string;
    key: string | null;
    dry_run: boolean;
    mode: Generated<ImportMode>;
    lines: Generated<bigint>;
    created: Generated<bigint>;
    updated: Generated<bigint>;
    unchanged: Generated<bigint>;
    failed: Generated<bigint>;
    prefix_hash: Buffer;
    finished: Generated<boolean>;
    started_at: Generated<Date>;
    updated_at: Generated<Date>;
    cancelled_at: Date | null;
    transfer_id: string | null;
  };
  import_errors: { import_id: string; line: bigint; errors: ColumnType<unknown, string, never> };
  import_duplicates: { import_id: string; line: bigint; possible_duplicates: number };
  /** `patient_id`: of whom a line with it is; null in a row of the version before. */
  import_emails: { import_id: string; email_hash: Buffer; patient_id: string | null };
  file_transfers: {
    caller: string;
    kind: "import" | "export";
    slot: number;
    id: string;
    name: string | null;
    started_at: Generated<Date>;
    expires_at: Date;
  };
};

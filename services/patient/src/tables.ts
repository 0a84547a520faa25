/** What is stored: the record of a patient, and the tables as types. Columns are explained in the migrations. */
import type { AuditTables } from "@pm/kit/audit/audit";
import type { OutboxTables } from "@pm/kit/kafka/outbox";
import type { ColumnType, Generated } from "kysely";

export const sexes = ["female", "male", "other", "unknown"] as const;
export type Sex = (typeof sexes)[number];

export type Address = { text: string; street?: string; city?: string; state?: string; zipCode?: string };

/**
 * The versioned part of a patient, which callers write. Dates are `YYYY-MM-DD`; the date of birth is as precise as it is
 * known, also `YYYY-MM` or `YYYY`. The phone number is E.164, with `;ext=` and its extension if it has one.
 */
export type PatientRecord = {
  name: string;
  firstName?: string;
  lastName?: string;
  email?: string;
  phoneNumber?: string;
  dateOfBirth: string;
  address?: Address;
  sex?: Sex;
  registeredDate: string;
} & Details;

/** The part of a record that has no columns of its own, because nothing is looked for by it and few records have it. */
type Details = { dateOfBirthEstimated?: boolean; deceased?: boolean | string };

/** The first day that a date of any precision can be. Lists are ordered and filtered by it. */
export const firstDay = (date: string): string => `${date}-01-01`.slice(0, 10);

/** A patient as it is now. `accountId` is undefined while the billing account is being opened. */
export type Patient = {
  id: string;
  version: number;
  record: PatientRecord;
  createdAt: Date;
  updatedAt: Date;
  accountId: string | undefined;
  /** Undefined if the patient is not deleted. */
  deletedAt?: Date | undefined;
};

/** The words that a search finds a patient by. `names` are those that a misspelled word may mean. */
export type SearchWords = { all: string[]; names: string[] };

/** What made a version of a record. */
export type Action = "registered" | "imported" | "updated" | "deleted" | "restored";

export type PatientsTable = {
  id: string;
  version: bigint;
  name: string;
  first_name: string | null;
  last_name: string | null;
  email: string | null;
  shared_email: string | null;
  email_key: string | null;
  phone_number: string | null;
  date_of_birth: string;
  address_text: string | null;
  street: string | null;
  city: string | null;
  state: string | null;
  zip_code: string | null;
  sex: Sex | null;
  registered_date: string;
  details: (Details & { dateOfBirth?: string }) | null;
  /** The owner: who registered the patient, unless an administrator has named another user. */
  registered_by: string;
  created_at: Date;
  updated_at: Date;
  deleted_at: Date | null;
  words: ColumnType<never, never, never>;
  changed_xid: ColumnType<never, never, never>;
};

export type Tables = {
  patients: PatientsTable;
  patient_words: { word: string };
  patient_versions: {
    patient_id: string;
    version: bigint;
    action: Action;
    changed_at: Date;
    changed_by: string;
    record: PatientRecord;
  };
  patient_access: {
    patient_id: string;
    principal: string;
    granted_by: string;
    granted_at: Generated<Date>;
    can_write: Generated<boolean>;
  };
  patient_billing: { patient_id: string; account_id: string | null; attempts: Generated<number>; next_attempt_at: Date | null };
  idempotency_keys: { caller: string; key: string; request_hash: Buffer; patient_id: string; created_at: Generated<Date> };
  imports: {
    id: string;
    caller: string;
    key: string | null;
    dry_run: boolean;
    lines: Generated<bigint>;
    created: Generated<bigint>;
    failed: Generated<bigint>;
    prefix_hash: Buffer;
    finished: Generated<boolean>;
    updated_at: Generated<Date>;
  };
  import_errors: { import_id: string; line: bigint; errors: ColumnType<unknown, string, never> };
  import_emails: { import_id: string; email_hash: Buffer };
  file_transfers: {
    caller: string;
    kind: "import" | "export";
    slot: number;
    id: string;
    name: string | null;
    started_at: Generated<Date>;
    expires_at: Date;
  };
} & AuditTables &
  OutboxTables;

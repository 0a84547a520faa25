/** What is stored: the record of a patient, and the tables as types. Columns are explained in the migrations. */
import type { AuditTables } from "@pm/kit/audit/audit";
import type { CheckTables } from "@pm/kit/checks";
import type { OutboxTables } from "@pm/kit/kafka/outbox";
import type { ColumnType, Generated, GeneratedAlways } from "kysely";
import type { EmergencyTables } from "./emergencies/tables.ts";
import type { ErasureTables } from "./erasure/tables.ts";
import type { ExportTables } from "./exports/tables.ts";
import type { FileTables } from "./files/tables.ts";

export const sexes = ["female", "male", "other", "unknown"] as const;
export type Sex = (typeof sexes)[number];

export type Address = { text: string; street?: string; city?: string; state?: string; zipCode?: string };

/** The system of the platform's own record numbers. A patient may have several, as after a change of software. */
export const recordNumberSystem = "mrn";

export const identifierTypes = ["record-number", "national-id", "insurance", "passport", "driving-licence", "other"] as const;

/** From when to when something holds: days, months or years, `2026-05-12`, `2026-05` or `2026`. */
export type Period = { start?: string; end?: string };

/** What the patient is called in another system, or on a document. A living patient has it alone. */
export type Identifier = { id: string; system: string; value: string; type?: (typeof identifierTypes)[number]; period?: Period };

/** Whom an identifier belongs to is decided by both. */
export type IdentifierKey = Pick<Identifier, "system" | "value">;

/** What makes an identifier unique among living patients, as one text. No system has a `|`. */
export const identifierName = ({ system, value }: IdentifierKey): string => `${system}|${value}`;

/** Those of HL7, without the ones of a few countries. */
export const maritalStatuses = [
  "annulled",
  "divorced",
  "domestic-partner",
  "married",
  "never-married",
  "polygamous",
  "separated",
  "unmarried",
  "widowed",
  "unknown",
] as const;

export const nameUses = ["official", "usual", "maiden", "nickname", "alias"] as const;
export const placeUses = ["home", "work", "temporary", "old"] as const;
export const phoneUses = ["home", "work", "mobile", "temporary", "old"] as const;

/** An entry of a list. Its id stays while it does. */
type Entry<Uses extends readonly string[]> = { id: string; use?: Uses[number]; period?: Period };
export type Name = Entry<typeof nameUses> & { text: string; prefix?: string; given?: string; family?: string; suffix?: string };
export type Phone = Entry<typeof phoneUses> & { value: string };
export type Email = Entry<typeof placeUses> & { value: string };
/** `country` is a code of ISO 3166-1. */
export type Place = Entry<typeof placeUses> & Address & { country?: string };
/** A tag of BCP 47, such as `de` or `pt-BR`. */
export type Language = { id: string; language: string; preferred?: boolean };
/** Somebody to ask or to tell about the patient. */
export type Contact = { id: string; name: string; relationship?: string; phone?: string; address?: string };

/**
 * Lists whose first entry `name`, `phoneNumber`, `email`, `address` show. One that says no more than that is left out.
 */
export type Lists = { names?: Name[]; phones?: Phone[]; emails?: Email[]; addresses?: Place[] };

/** What columns have of the first entry of a list, and flat fields show. */
export const shown = {
  names: ["text", "given", "family"],
  phones: ["value"],
  emails: ["value"],
  addresses: ["text", "street", "city", "state", "zipCode"],
} as const satisfies Record<keyof Lists, readonly string[]>;

/** The parts of a record that have no column of their own. */
export type Details = Lists & {
  dateOfBirthEstimated?: boolean;
  /** Whether they have died, or on which day. */
  deceased?: boolean | string;
  maritalStatus?: (typeof maritalStatuses)[number];
  languages?: Language[];
  generalPractitioner?: string;
  managingSite?: string;
  /**
   * What a FHIR resource says beyond these fields, as JSON. The FHIR service writes and reads it; nothing here does.
   */
  fhirElements?: string;
  contacts?: Contact[];
  /** With a record number, as soon as the patient is stored. */
  identifiers?: Identifier[];
};

/**
 * The versioned part of a patient, which callers write. Dates are `YYYY-MM-DD`; the date of birth is as precise as it
 * is known, also `YYYY-MM` or `YYYY`. The phone number is E.164, with `;ext=` and its extension if it has one.
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

/** The parts without a column of their own, as stored. A date of birth without a known day is there as written. */
export type StoredDetails = Details & { dateOfBirth?: string };

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
  /** The record that this one was merged into. It is not living then, so it has `deletedAt` too. */
  mergedInto?: string | undefined;
  /** The records that were merged into this one, also by way of others. */
  replaces?: string[] | undefined;
};

/**
 * What lists find and order a patient by: words, of which `names` are those that a misspelled word may mean, the name
 * by which lists are sorted, and the city as it is compared. By `keys` records meet that may be of one person.
 */
export type SearchWords = {
  all: string[];
  names: string[];
  sortName: string;
  cityKey: string | undefined;
  keys: number[];
  birthKeys: number[];
};

/** What made a version of a record. */
export type Action = "registered" | "imported" | "updated" | "deleted" | "restored" | "merged" | "unmerged" | "erased";

/** What becomes of a new patient who may be registered already: `warn` creates them and says so. */
export const duplicateModes = ["allow", "warn", "refuse"] as const;
export type DuplicateMode = (typeof duplicateModes)[number];

/** What an operation of a batch did, as its idempotency key keeps it. */
export type BatchedWrite = { status: 200 | 201 | 204; id: string; version: number };

/** How sure it is that two records are of one person, from the surest to the least sure. */
export const grades = ["certain", "probable", "possible"] as const;
export type Grade = (typeof grades)[number];

/** What was decided about a pair of records that may be one person. */
export const pairStates = ["open", "merged", "not_the_same"] as const;
export type PairState = (typeof pairStates)[number];

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
  details: StoredDetails | null;
  /** The owner: who registered the patient, unless an administrator has named another user. */
  registered_by: string;
  created_at: Date;
  updated_at: Date;
  deleted_at: Date | null;
  words: ColumnType<never, never, never>;
  changed_xid: ColumnType<never, never, never>;
  sort_name: string | null;
  city_key: string | null;
  words_version: bigint | null;
  erased_at: Date | null;
  match_keys: number[] | null;
  keys_version: bigint | null;
  merged_into: string | null;
};

/** A row of `patient_access`, as JSON of a merge has it. */
export type StoredGrant = { principal: string; can_write: boolean; granted_by: string; granted_at: string };

export type Tables = {
  patients: PatientsTable;
  patient_words: { word: string };
  /** Of living patients only. */
  patient_identifiers: { system: string; value: string; patient_id: string };
  /** `first_id` is the smaller one of the two. */
  duplicate_pairs: {
    id: Generated<string>;
    first_id: string;
    second_id: string;
    score: number | null;
    grade: string | null;
    model: string | null;
    state: Generated<PairState>;
    decided_by: string | null;
    decided_at: Date | null;
  };
  /** One row. */
  duplicate_progress: { one: Generated<boolean>; model: string; after_id: string | null; server: string; xid: string; id: string };
  patient_versions: {
    patient_id: string;
    version: bigint;
    action: Action;
    changed_at: Date;
    changed_by: string;
    record: PatientRecord;
    salt: Buffer | null;
    changed_xid: ColumnType<never, never, never>;
  };
  patient_access: { patient_id: string; principal: string; granted_by: string; granted_at: Generated<Date>; can_write: Generated<boolean> };
  patient_merges: {
    id: GeneratedAlways<bigint>;
    survivor_id: string;
    survivor_version: bigint;
    survivor_grants: StoredGrant[];
    duplicate_id: string;
    duplicate_version: bigint;
    duplicate_owner: string;
    duplicate_grants: StoredGrant[];
    merged_by: string;
    merged_at: Date;
    undone_version: bigint | null;
    undone_by: string | null;
    undone_at: Date | null;
  };
  patient_links: {
    patient_id: string;
    survivor_id: string | null;
    revision: bigint;
    attempts: Generated<number>;
    next_attempt_at: Date | null;
  };
  patient_billing: {
    patient_id: string;
    account_id: string | null;
    attempts: Generated<number>;
    next_attempt_at: Date | null;
    traceparent: string | null;
  };
  idempotency_keys: {
    caller: string;
    key: string;
    request_hash: Buffer;
    patient_id: string;
    created_at: Generated<Date>;
    possible_duplicates: number | null;
    results: ColumnType<BatchedWrite[] | null, string, string>;
  };
  conflict_limits: { caller: string; told_at: Generated<Date[]> };
} & EmergencyTables &
  ErasureTables &
  ExportTables &
  FileTables &
  AuditTables &
  CheckTables &
  OutboxTables;

/** A patient as patient-service sends and takes them (services/patient/openapi.json), as far as FHIR shows them. */

type Period = { start?: string; end?: string };
/** An entry of a list. Its id stays while it does. */
type Entry = { id?: string; use?: string; period?: Period };

export type Identifier = Entry & { system: string; value: string; type?: string };
export type Name = Entry & { text?: string; prefix?: string; given?: string; family?: string; suffix?: string };
export type ContactPoint = Entry & { value: string };
export type Place = Entry & { text?: string; street?: string; city?: string; state?: string; zipCode?: string; country?: string };
export type Language = { id?: string; language: string; preferred?: boolean };
export type Contact = { id?: string; name: string; relationship?: string; phone?: string; address?: string };

/** What callers write. */
export type PatientBody = {
  identifiers?: Identifier[];
  names?: Name[];
  phones?: ContactPoint[];
  emails?: ContactPoint[];
  addresses?: Place[];
  contacts?: Contact[];
  languages?: Language[];
  dateOfBirth?: string;
  dateOfBirthEstimated?: boolean;
  deceased?: boolean | string;
  sex?: string;
  maritalStatus?: string;
  generalPractitioner?: string;
  managingSite?: string;
  registeredDate?: string;
  /** What of a resource has no field here (`kept.ts`), as JSON. */
  fhirElements?: string;
};

export type Patient = PatientBody & {
  id: string;
  version: number;
  createdAt: string;
  updatedAt: string;
  deletedAt?: string;
  /** The survivor of a merge. */
  mergedInto?: string;
  /** The records that were merged into this one. */
  replaces?: string[];
  /** The id that was asked for, if it is of a record that was merged into this one. */
  mergedFrom?: string;
};

/** A version as it was, and by what it was made. */
export type PatientVersion = Omit<Patient, "deletedAt"> & { action: string; by: string };

/** Lines of an import that change patients. Each is a PATCH: with its access rule, conflicts and audit entries. */
import { type AuditTrail, recordRefusal } from "@pm/kit/audit/trail";
import { AppError, type FieldError, invalidFields } from "@pm/kit/errors";
import { isUuid } from "@pm/kit/uuid";
import { type Call, viewerOf } from "../caller.ts";
import type { RecordSettings } from "../config.ts";
import type { PatientDatabase } from "../database.ts";
import { claimsOf } from "../patients/conflicts.ts";
import { rulesAt } from "../patients/fields.ts";
import type { Merge } from "../patients/patients.ts";
import { patchedRecord } from "../patients/record.ts";
import { findSurvivor } from "../patients/store.ts";
import { type IdentifierKey, identifierName, type PatientRecord } from "../tables.ts";
import { findNamedBefore } from "./dry-run-store.ts";
import { withEntries } from "./lists.ts";
import { findMatches } from "./match-store.ts";
import type { ImportLine } from "./rows.ts";
import type { ImportMode } from "./tables.ts";

/** The patient whom a line changes, and how. `isNew`: a line before would create them, in a dry run. */
export type Update = { patientId: string; isNew: boolean } & Merge;

type Options = {
  db: PatientDatabase;
  now: () => Date;
  settings: RecordSettings;
  /** Changes a patient by a PATCH of what it is now; a preview only says what would change. */
  merge: (call: Call, id: string, bodyFor: (current: PatientRecord) => unknown, isPreview: boolean) => Promise<Merge>;
};

/** What a line says about which patient it means. */
function keysOf({ body, added }: ImportLine): { id: unknown; identifiers: IdentifierKey[] } {
  const { id, identifiers } = body as { id?: unknown; identifiers?: unknown };
  const entries = [...(Array.isArray(identifiers) ? identifiers : []), ...(added?.identifiers ?? [])];
  return {
    id: id ?? undefined,
    identifiers: entries.flatMap((entry) => {
      const { system, value } = (entry ?? {}) as Record<string, unknown>;
      return typeof system === "string" && typeof value === "string" ? [{ system, value: value.normalize().trim() }] : [];
    }),
  };
}

const pathOf = ([first, ...others]: IdentifierKey[]) => (first && others.length === 0 ? `identifiers.${first.system}` : "identifiers");

/** The identifiers of a line, to find out whether a line before it created the patient whom it means. */
export const identifierNames = (line: ImportLine): string[] => keysOf(line).identifiers.map(identifierName);

/** Who stands for a patient whom a line before would create: a dry run stores nobody. */
const somebody: PatientRecord = {
  ...{ name: "A B", firstName: "A", lastName: "B", dateOfBirth: "1900-01-01", registeredDate: "1900-01-01" },
  ...{ email: "somebody@example.com", address: { text: "1 Way, Ayr", street: "1 Way", city: "Ayr" } },
};

type Run = { importId: string; mode: ImportMode; dryRun: boolean };

export function createUpdates({ db, merge, now, settings }: Options, call: Call, { importId, mode, dryRun }: Run) {
  /** The patient whom a line means. Undefined if it is to create one. One with an id means that patient or nobody. */
  async function find({ id, identifiers }: ReturnType<typeof keysOf>): Promise<string | undefined> {
    const viewer = viewerOf(call.caller);
    if (id !== undefined) {
      const [patientId] = typeof id === "string" && isUuid(id) ? await findMatches(db, viewer, { id, identifiers: [] }) : [];
      if (patientId !== undefined) return patientId;
      const survivorId = typeof id === "string" && isUuid(id) ? await findSurvivor(db, id, viewer) : undefined;
      if (survivorId) throw invalidFields([{ path: "id", message: `was merged into ${survivorId}; use that one` }]);
      const message = "is of no patient whom you may see; correct it, or leave it out, and the identifiers say who is meant";
      throw invalidFields([{ path: "id", message }]);
    }
    if (identifiers.length === 0 && mode === "update")
      throw invalidFields([{ path: "", message: "needs an id or an identifier, so that it is clear who is meant" }]);
    const [patientId, ...others] = identifiers.length > 0 ? await findMatches(db, viewer, { id, identifiers }) : [];
    if (others.length > 0) throw invalidFields([{ path: "identifiers", message: "belong to different patients; correct them" }]);
    if (patientId === undefined && mode === "update")
      throw invalidFields([{ path: pathOf(identifiers), message: "there is no patient with this identifier" }]);
    return patientId;
  }

  /** Changes the patient whom a line means. Undefined if the line is to create one. */
  return async (line: ImportLine): Promise<Update | undefined> => {
    if (mode === "create") return undefined;
    const keys = keysOf(line);
    const found = await find(keys);
    const isNamed = found === undefined && dryRun && keys.identifiers.length > 0;
    const patientId = isNamed ? await findNamedBefore(db, importId, keys.identifiers) : found;
    if (patientId === undefined) return undefined;
    const bodyFor = (current: PatientRecord) => {
      const { id: _id, ...fields } = line.body as Record<string, unknown>;
      return line.isFlat ? withEntries(fields, line.added ?? {}, current) : fields;
    };
    if (isNamed && (await findMatches(db, viewerOf(call.caller), { id: patientId, identifiers: [] })).length === 0) {
      const record = patchedRecord(bodyFor(somebody), somebody, rulesAt(now().getTime(), settings));
      return { patientId, isNew: true, changes: [], claims: claimsOf(record, settings, somebody) };
    }
    return { patientId, isNew: false, ...(await merge(call, patientId, bodyFor, dryRun)) };
  };
}

/** Errors that cost a line and not the import. */
const ofLine = ["invalid_argument", "not_found", "permission_denied", "already_exists", "aborted", "resource_exhausted"];

/** What is wrong with a line. Whom the caller may not change is in the audit trail. @throws other errors */
export async function errorsOfLine(audit: AuditTrail, call: Call, error: unknown): Promise<FieldError[]> {
  if (!(error instanceof AppError) || !(ofLine.includes(error.code) || error.options.reason === "MERGED")) throw error;
  const recorded = await recordRefusal(audit, call, "patient.importPatients", error);
  if (recorded !== error) throw recorded;
  return error.options.errors ?? [{ path: "", message: error.message }];
}

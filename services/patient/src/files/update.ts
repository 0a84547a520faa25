/** Lines of an import that change patients. Each change is a PATCH: with its access rule, its conflicts and its audit entries. */
import { type AuditTrail, recordRefusal } from "@pm/kit/audit/trail";
import { AppError, type FieldError, invalidFields } from "@pm/kit/errors";
import { isUuid } from "@pm/kit/uuid";
import { type Call, viewerOf } from "../caller.ts";
import type { PatientDatabase } from "../database.ts";
import type { Merge } from "../patients/patients.ts";
import { findSurvivor } from "../patients/store.ts";
import { type IdentifierKey, type ImportMode, identifierName, type PatientRecord } from "../tables.ts";
import { withEntries } from "./lists.ts";
import { findMatches } from "./match-store.ts";
import type { ImportLine } from "./rows.ts";

/** The patient whom a line changes, and how. */
export type Update = { patientId: string } & Merge;

type Options = {
  db: PatientDatabase;
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

/** The identifiers of a line, to find out whether a line before it created the patient whom it means. */
export const identifierNames = (line: ImportLine): string[] => keysOf(line).identifiers.map(identifierName);

export function createUpdates({ db, merge }: Options, call: Call, { mode, dryRun }: { mode: ImportMode; dryRun: boolean }) {
  /** The patient whom a line means. Undefined if the line is to create one. A line with an id means that patient or nobody. */
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
      throw invalidFields([{ path: "", message: "there is no patient with this identifier" }]);
    return patientId;
  }

  /** Changes the patient whom a line means. Undefined if the line is to create one. */
  return async (line: ImportLine): Promise<Update | undefined> => {
    if (mode === "create") return undefined;
    const patientId = await find(keysOf(line));
    if (patientId === undefined) return undefined;
    const bodyFor = (current: PatientRecord) => {
      const { id: _id, ...fields } = line.body as Record<string, unknown>;
      return line.isFlat ? withEntries(fields, line.added ?? {}, current) : fields;
    };
    return { patientId, ...(await merge(call, patientId, bodyFor, dryRun)) };
  };
}

/** Errors that cost a line and not the import. */
const ofLine = ["invalid_argument", "not_found", "permission_denied", "already_exists", "aborted", "resource_exhausted"];

/** What is wrong with a line. Whom the caller may not change is in the audit trail. @throws errors that are not the line's */
export async function errorsOfLine(audit: AuditTrail, call: Call, error: unknown): Promise<FieldError[]> {
  if (!(error instanceof AppError) || !(ofLine.includes(error.code) || error.options.reason === "MERGED")) throw error;
  const recorded = await recordRefusal(audit, call, "patient.importPatients", error);
  if (recorded !== error) throw recorded;
  return error.options.errors ?? [{ path: "", message: error.message }];
}

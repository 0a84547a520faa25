/** What patients are called by other systems and papers: record numbers, national ids, insurance numbers, passports. */
import type { FieldError } from "@pm/kit/errors";
import { type Identifier, type IdentifierKey, identifierName, identifierTypes, type PatientRecord, recordNumberSystem } from "../tables.ts";
import { type Entry, list, normalText, oneOf, period, type Reader, withIds } from "./reading.ts";

export const identifierLimits = { system: 200, value: 100 };

/** As callers send it. */
export type GivenIdentifier = Omit<Identifier, "id"> & Entry;

const system: Reader<string> = (value, path, problems) => {
  const found = normalText(identifierLimits.system)(value, path, problems);
  if (found === undefined || /^[^\s|]+$/.test(found)) return found;
  problems.push({ path, message: "must not have spaces or |, as in urn:oid:1.2.36.146.595.217 or passport-de" });
  return undefined;
};

const entries = list<GivenIdentifier>(
  { system, value: normalText(identifierLimits.value), type: oneOf(identifierTypes), period },
  (entry, path, problems) => {
    for (const field of ["system", "value"] as const)
      if (!(field in entry)) problems.push({ path: `${path}.${field}`, message: "is required" });
  },
);

export const identifiers: Reader<GivenIdentifier[]> = (value, path, problems, current) => {
  const found = entries(value, path, problems, current);
  const seen = new Set<string>();
  for (const [index, identifier] of (found ?? []).entries()) {
    const key = identifierName(identifier);
    if (seen.has(key)) problems.push({ path: `${path}[${index}]`, message: "is in the list twice" } satisfies FieldError);
    seen.add(key);
  }
  return found;
};

const isRecordNumber = ({ system }: { system: string }) => system === recordNumberSystem;

/**
 * The identifiers of a record after a change. A patient keeps their record number, unless the change has another one.
 */
export function identifiersAfter(given: GivenIdentifier[], current: Identifier[] | undefined): Identifier[] {
  if (current === undefined) return withIds(given, false);
  const used = new Set(given.map(({ id }) => id));
  const kept: GivenIdentifier[] = given.some(isRecordNumber)
    ? []
    : current.filter(isRecordNumber).map(({ id, ...rest }) => (used.has(id) ? rest : { id, ...rest }));
  return withIds([...kept, ...given], true);
}

export const hasRecordNumber = ({ identifiers }: PatientRecord): boolean => identifiers?.some(isRecordNumber) === true;

/** The record with the number that the platform gives it. */
export function withRecordNumber<Of extends PatientRecord>(record: Of, value: string): Of {
  const number: GivenIdentifier = { system: recordNumberSystem, value };
  return { ...record, identifiers: withIds([number, ...(record.identifiers ?? [])], false) };
}

/** Reads `system|value`. Undefined if it is not that. */
export function readKey(text: string): IdentifierKey | undefined {
  const [, system, value] = /^([^\s|]+)\|(.*\S.*)$/su.exec(text.normalize()) ?? [];
  return system === undefined || value === undefined ? undefined : { system, value: value.trim() };
}

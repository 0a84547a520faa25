/** References between the entries of a transaction, by `fullUrl`. */
import type { FieldError } from "@pm/kit/errors";
import type * as fhir from "fhir/r4.js";
import { unprocessable } from "../protocol/outcome.ts";

/** Deeper resources are refused when they are read. */
const maxDepth = 2_000;

/** What each `fullUrl` of a Bundle refers to: `Patient/1`, or nothing yet, because the entry creates the patient. */
export type References = Map<string, string | undefined>;

/** Finds the reference to write for one of a Bundle, or says why there is none. */
function resolve(reference: string, references: References): { reference: string } | { refused: string } {
  const target = references.get(reference);
  if (target !== undefined) return { reference: target };
  if (references.has(reference))
    return { refused: `refers to ${reference}, whose patient is created and has no id yet; write the reference afterwards` };
  if (reference.startsWith("urn:")) return { refused: `refers to ${reference}, which is the fullUrl of no entry that writes a patient` };
  if (/^[A-Za-z]+\?/.test(reference)) return { refused: "refers by a condition, which is not resolved here; refer by id" };
  return { reference };
}

/** @throws AppError unprocessable that names each reference which cannot be resolved */
export function withReferences(patient: fhir.Patient, references: References): fhir.Patient {
  const wrong: FieldError[] = [];
  const walk = (value: unknown, path: string, depth: number): unknown => {
    if (typeof value !== "object" || value === null) return value;
    if (depth > maxDepth) throw unprocessable([{ path: "Patient", message: `has more than ${maxDepth} levels` }]);
    if (Array.isArray(value)) return value.map((one, index) => walk(one, `${path}[${index}]`, depth + 1));
    const fields = Object.entries(value).map(([name, inner]) => {
      const at = `${path}.${name}`;
      if (name !== "reference" || typeof inner !== "string") return [name, walk(inner, at, depth + 1)];
      const resolved = resolve(inner, references);
      if ("refused" in resolved) wrong.push({ path: at, message: resolved.refused });
      return [name, "reference" in resolved ? resolved.reference : inner];
    });
    return Object.fromEntries(fields);
  };
  const resolved = walk(patient, "Patient", 0) as fhir.Patient;
  if (wrong.length > 0) throw unprocessable(wrong);
  return resolved;
}

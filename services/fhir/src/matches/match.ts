/** Who may be the same person as somebody (http://hl7.org/fhir/R4/patient-operation-match.html). */
import type * as fhir from "fhir/r4.js";
import type { Candidate, Patients } from "../patients/client.ts";
import { toFhir } from "../patients/mapping.ts";
import { readPatient } from "../patients/writing.ts";
import type { Call } from "../protocol/calls.ts";

export type MatchRequest = { resource: fhir.Patient; onlyCertain: boolean; count: number | undefined };
export type Match = { patient: fhir.Patient; score: number; grade: Candidate["grade"] };

/** Most that patient-service gives, and how many it gives by itself. */
const maxCandidates = 50;
const defaultCandidates = 10;

/** Ours: how much more likely one person is than two, as a power of two. FHIR's: how likely one is, from 0 to 1. */
function likelihood(score: number): number {
  const odds = 2 ** score;
  return Number.isFinite(odds) ? Number((odds / (1 + odds)).toFixed(6)) : 1;
}

export function createMatch(patients: Patients) {
  /**
   * The best first. With `onlyCertain`, the one certain match; none if there are several, because then none of them is.
   */
  return async (call: Call, { resource, onlyCertain, count = defaultCandidates }: MatchRequest): Promise<Match[]> => {
    // What only says how a record is stored is nothing to compare.
    const { id: _id, meta: _meta, text: _text, active: _active, link: _link, ...person } = resource;
    const limit = onlyCertain ? maxCandidates : Math.min(count, maxCandidates);
    const candidates = await patients.match(call, readPatient(person), limit);
    const certain = candidates.filter(({ grade }) => grade === "certain");
    const found = !onlyCertain ? candidates : certain.length === 1 ? certain : [];
    return found.map(({ patient, score, grade }) => ({ patient: toFhir(patient), score: likelihood(score), grade }));
  };
}

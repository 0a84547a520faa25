/** Who may be the same person as somebody: candidates by shared keys, each with a score, a grade and the reasons. */
import type { AuditTrail } from "@pm/kit/audit/trail";
import type { Queries } from "@pm/kit/postgres/transaction";
import { type Call, viewerOf } from "../caller.ts";
import type { RecordSettings } from "../config.ts";
import type { PatientDatabase, Viewer } from "../database.ts";
import { matchKeys } from "../patients/blocking-keys.ts";
import { type Features, featuresOf, type PartOfPatient } from "../patients/features.ts";
import { rulesAt } from "../patients/fields.ts";
import { fold } from "../patients/folding.ts";
import { phoneWords } from "../patients/phone.ts";
import { partOfRecord } from "../patients/record.ts";
import type { Grade, Patient } from "../tables.ts";
import { createSharers, type FindByKeys, findByAnyKey, findByWords, readCandidates, readSnapshot } from "./candidates-store.ts";
import { compare } from "./comparisons.ts";
import { type Frequencies, gradeOf, type Model, type Reason, type Scored, scoreOf } from "./model.ts";

export type Candidate = { patient: Patient; score: number; grade: Grade; reasons: Reason[] };

/** Somebody who is compared, the keys by which they meet others, and who is to learn about whom. */
export type Asked = { viewer: Viewer; part: PartOfPatient; keys: number[] };

const maxAtOnce = 100;

export type Matching = ReturnType<typeof createMatching>;

type Options = {
  db: PatientDatabase;
  audit: AuditTrail;
  model: Model;
  frequencies: () => Promise<Frequencies>;
  now: () => Date;
  settings: RecordSettings;
};

/** Compares people. Without a grade, two are most likely two. */
export function createScoring(model: Model) {
  return (one: Features, other: Features, frequencies: Frequencies): Scored & { grade: Grade | undefined } => {
    const { score, reasons } = scoreOf(model, compare(one, other), frequencies);
    const identifier = one.identifiers.find((each) => other.identifiers.includes(each));
    if (identifier === undefined) {
      const grade = gradeOf(model, score);
      return { score, grade, reasons };
    }
    // One system gives an identifier to one person, whatever else differs.
    const least = Math.max(score, model.thresholds.certain);
    return { score: least, grade: "certain", reasons: [{ field: "identifiers", level: "same", weight: least - score }, ...reasons] };
  };
}

export function createMatching({ db, audit, model, frequencies, now, settings }: Options) {
  const scored = createScoring(model);
  const anyPrecision = { ...settings, dateOfBirthPrecision: "year" as const };
  const sharers = createSharers();
  const sharersOf = (asked: Asked[], findByKeys: FindByKeys, queries: Queries = db) =>
    sharers.of(
      queries,
      asked.map(({ keys }) => keys),
      findByKeys,
    );

  async function graded(asked: (Asked & { ids: string[] })[], queries: Queries = db): Promise<Candidate[][]> {
    const visible = await readCandidates(queries, asked);
    if (visible.size === 0) return asked.map(() => []);
    const counts = await frequencies();
    const features = memoizeFeatures();
    return asked.map(({ viewer, part, ids }) => {
      const patients = visible.get(viewer.id);
      if (!patients || ids.length === 0) return [];
      const own = featuresOf(part);
      return ids
        .flatMap((id): Candidate[] => {
          const patient = patients.get(id);
          if (!patient) return [];
          const { grade, ...found } = scored(own, features(patient), counts);
          return grade ? [{ patient, grade, ...found }] : [];
        })
        .sort((a, b) => b.score - a.score);
    });
  }

  return {
    version: model.version,

    /**
     * The candidates for each of several people, by shared keys alone, and among those with the ids in `known`. Nobody
     * is shown them before somebody has audited it.
     */
    async find(asked: (Asked & { known?: string[] })[], findByKeys: FindByKeys, queries?: Queries): Promise<Candidate[][]> {
      const found: Candidate[][] = [];
      // Some at a time, since each may have hundreds to be compared with.
      for (let at = 0; at < asked.length; at += maxAtOnce) {
        const some = asked.slice(at, at + maxAtOnce);
        const ids = await sharersOf(some, findByKeys, queries);
        const compared = some.map((each, index) => ({ ...each, ids: [...new Set([...(each.known ?? []), ...(ids[index] ?? [])])] }));
        found.push(...(await graded(compared, queries)));
      }
      return found;
    },

    /** What a look-up from now on sees; `findWrittenSince` finds the rest. */
    snapshot: () => readSnapshot(db),

    /** Whether too many patients share a key for it to say anything. */
    isCommon: sharers.isCommon,

    /** How many of `others`, by their places among the people, may be each of them. */
    async countAlike(people: PartOfPatient[], others: Set<number>[]): Promise<number[]> {
      if (others.every(({ size }) => size === 0)) return people.map(() => 0);
      const counts = await frequencies();
      const features = people.map(featuresOf);
      return features.map((one, index) => {
        const alike = [...(others[index] ?? [])].map((other) => features[other]).filter((other) => other !== undefined);
        return alike.filter((other) => scored(one, other, counts).grade !== undefined).length;
      });
    },

    /** The best candidates for any part of a patient. */
    async match(call: Call, body: unknown, limit: number): Promise<Candidate[]> {
      const part = partOfRecord(body, rulesAt(now().getTime(), anyPrecision));
      const asked = { viewer: viewerOf(call.caller), part, keys: matchKeys(featuresOf(part)).keys };
      const [shared, exact] = await Promise.all([
        sharersOf([asked], findByAnyKey),
        findByWords(db, exactWords(part), part.identifiers ?? []),
      ]);
      const [found = []] = await graded([{ ...asked, ids: [...new Set([...shared.flat(), ...exact])] }]);
      const candidates = found.slice(0, limit);
      await this.shown(call, candidates);
      return candidates;
    },

    /** Writes into the audit trail who is shown whom. */
    async shown({ actorId, requestId }: Pick<Call, "actorId" | "requestId">, candidates: Candidate[]): Promise<void> {
      const ids = candidates.map(({ patient }) => patient.id);
      await audit.record({ actorId, action: "patient.matched", subject: "patients", requestId, details: { ids }, patientIds: ids });
    },
  };
}

/** People who arrive together meet the same patients. */
function memoizeFeatures(): (patient: Patient) => Features {
  const known = new Map<string, Features>();
  return ({ id, record }) => {
    const found = known.get(id) ?? featuresOf(record);
    known.set(id, found);
    return found;
  };
}

/** The search words of numbers and addresses, which are one person's or a household's. */
function exactWords({ phoneNumber, phones = [], email, emails = [] }: PartOfPatient): string[] {
  const numbers = [phoneNumber, ...phones.map(({ value }) => value)].filter((each) => each !== undefined);
  const addresses = [email, ...emails.map(({ value }) => value)].filter((each) => each !== undefined);
  return [...new Set([...numbers.flatMap((each) => phoneWords(each).slice(0, 1)), ...addresses.map(fold)])];
}

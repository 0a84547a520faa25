/**
 * How much a comparison says, after Fellegi and Sunter: a level of a field speaks for one person as often as it is met
 * among records of one person (`m`) rather than of two (`u`). The weights of all fields, as powers of two, are added to
 * what is to be expected before anything is compared.
 */
import { type Grade, grades } from "../tables.ts";
import { type Comparison, type Field, fields } from "./comparisons.ts";

export type Model = {
  version: string;
  /** What it was trained on, in words. */
  trainedOn: string;
  /** How many records that were. */
  records: number;
  /** How many of all pairs are of one person, as a power of two. */
  prior: number;
  fields: { [Of in Field]: Record<string, { m: number; u: number }> };
  /** The least score of each grade. */
  thresholds: Record<Grade, number>;
};

/** How many of all patients have a word in their names. */
export type Frequencies = { patients: number; countOf(word: string): number };
const unknownFrequencies: Frequencies = { patients: 0, countOf: () => 0 };

export type Reason = { field: Field | "identifiers" | "household"; level: string; weight: number };
export type Scored = { score: number; reasons: Reason[] };

/** Names of few people say little about frequencies, so this many stand beside them with names as in the training. */
const peopleBeside = 1_000;

/** What the equality of a name says: the more people have it, the less. */
function weightOfName(name: string, { m, u }: { m: number; u: number }, { patients, countOf }: Frequencies): number {
  const count = Math.min(...name.split(" ").map(countOf));
  return Math.log2((m * (patients + peopleBeside)) / (count + u * peopleBeside));
}

/** What the people of a home have in common. */
const ofHousehold: ReadonlySet<Field> = new Set(["family", "houseNumber", "street", "city", "zipCode", "state", "phone", "email"]);

/** All of that together says at most that two records are of one home, where one of four people is meant. */
const maxOfHousehold = -2;

export function scoreOf(model: Model, comparison: Comparison, frequencies = unknownFrequencies): Scored {
  // Among more people, more of them are alike by chance.
  let household = model.prior - Math.max(0, Math.log2(frequencies.patients / model.records));
  let person = 0;
  const reasons: Reason[] = [];
  for (const field of fields) {
    const level = comparison[field];
    const trained = level === undefined ? undefined : model.fields[field][level];
    if (level === undefined || !trained) continue;
    const same = field === "given" ? comparison.sameGiven : field === "family" ? comparison.sameFamily : undefined;
    const weight = same === undefined ? Math.log2(trained.m / trained.u) : weightOfName(same, trained, frequencies);
    if (ofHousehold.has(field)) household += weight;
    else person += weight;
    reasons.push({ field, level, weight });
  }
  if (household > maxOfHousehold) reasons.push({ field: "household", level: "same", weight: maxOfHousehold - household });
  return { score: Math.min(household, maxOfHousehold) + person, reasons };
}

export function gradeOf({ thresholds }: Model, score: number): Grade | undefined {
  return grades.find((grade) => score >= thresholds[grade]);
}

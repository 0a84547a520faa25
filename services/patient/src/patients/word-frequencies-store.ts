/**
 * How many patients have words, as Postgres has sampled it. The planner estimates by the same sample, but to ask it
 * takes a tenth of a search.
 */
import { LRUCache } from "lru-cache";
import type { PatientDatabase } from "../database.ts";

/** A word that is looked for, as it is or as a beginning. */
export type LookedFor = { word: string; isBeginning: boolean };

type Sample = { patients: number; least: number; shares: Map<string, number>; shareOfBeginning: (beginning: string) => number };

const sampleStatement = {
  name: "patients_word_frequencies",
  text: `select most_common_elems::text::text[] as words, most_common_elem_freqs as frequencies, reltuples::float8 as patients
    from pg_stats join pg_class on oid = 'patients'::regclass where schemaname = 'public' and tablename = 'patients' and attname = 'words'`,
};

const keptMs = 60_000;
/** So long nobody asks again whether something was sampled. */
const unknownMs = 5_000;

export type WordFrequencies = {
  /** How many patients have all these words. Undefined if nothing was sampled yet. */
  countOf(looked: LookedFor[]): Promise<number | undefined>;
  /** How many patients there are. Undefined if nothing was sampled yet. */
  patients(): Promise<number | undefined>;
};

/** How many patients there are, and how many of them have a word, by the same sample. */
export type WordCounts = { patients: number; countOf(word: string): number };

/** Undefined if nothing was sampled yet. */
function createSamples(db: PatientDatabase): () => Promise<Sample | undefined> {
  const samples = new LRUCache<"sample", Sample>({
    max: 1,
    ttl: keptMs,
    async fetchMethod() {
      const [row] = await db.query<{ words: string[] | null; frequencies: number[]; patients: number }>(sampleStatement, []);
      if (!row?.words || row.patients <= 0) return undefined;
      // Behind the frequencies of the words are the least and the greatest one.
      const shares = new Map(row.words.map((word, index) => [word, row.frequencies[index] ?? 0]));
      return {
        patients: row.patients,
        least: row.frequencies[row.words.length] ?? 0,
        shares,
        shareOfBeginning: sharesOfBeginnings(shares),
      };
    },
  });
  let unknownUntil = 0;
  return async () => {
    if (Date.now() < unknownUntil) return undefined;
    const sample = await samples.fetch("sample");
    if (!sample) unknownUntil = Date.now() + unknownMs;
    return sample;
  };
}

/** A word that is not in the sample is rarer than all that are. */
export function createWordCounts(db: PatientDatabase): () => Promise<WordCounts> {
  const readSample = createSamples(db);
  return async () => {
    const sample = await readSample();
    if (!sample) return { patients: 0, countOf: () => 0 };
    const { patients, shares, least } = sample;
    return { patients, countOf: (word) => (shares.get(word) ?? least / 2) * patients };
  };
}

export function createWordFrequencies(db: PatientDatabase): WordFrequencies {
  const readSample = createSamples(db);
  return {
    async countOf(looked) {
      const sample = await readSample();
      return sample && Math.round(sample.patients * looked.reduce((share, each) => share * shareOf(each, sample), 1));
    },
    patients: async () => (await readSample())?.patients,
  };
}

/** The share of patients with a word. One that is not in the sample is rarer than all that are. */
function shareOf({ word, isBeginning }: LookedFor, { shares, shareOfBeginning, least }: Sample): number {
  return Math.max(isBeginning ? shareOfBeginning(word) : (shares.get(word) ?? 0), least / 2);
}

/** The share of patients with any word that begins so, as if each word were had without regard to the others. */
export function sharesOfBeginnings(shares: Map<string, number>): Sample["shareOfBeginning"] {
  const words = [...shares.keys()].sort();
  // Of each word, the logarithm of the share of patients who have none of the words before it. All patients of the
  // sample may have a word.
  const without = [0];
  for (const [index, word] of words.entries())
    without.push((without[index] ?? 0) + Math.log1p(-Math.min(shares.get(word) ?? 0, 0.999_999)));
  return (beginning) => {
    const first = placeOf(words, beginning);
    const end = placeOf(words, `${beginning}\uffff`);
    return -Math.expm1((without[end] ?? 0) - (without[first] ?? 0));
  };
}

/** How many of the sorted words come before a word. */
function placeOf(sorted: string[], word: string): number {
  let [low, high] = [0, sorted.length];
  while (low < high) {
    const middle = (low + high) >> 1;
    if ((sorted[middle] ?? "") < word) low = middle + 1;
    else high = middle;
  }
  return low;
}

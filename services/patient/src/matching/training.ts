/**
 * Trains a model: `u` from all pairs, which are of two people almost always (those that share no key by chance), and
 * `m` by expectation maximisation among the pairs that share a key, without knowing which of them are of one person. If
 * some are known to be, they only decide the thresholds.
 */

import { matchKeys } from "../patients/blocking-keys.ts";
import type { Features } from "../patients/features.ts";
import { type Grade, grades } from "../tables.ts";
import { type Comparison, compare, type Field, fields, levels } from "./comparisons.ts";
import { type Frequencies, type Model, scoreOf } from "./model.ts";

/** A key that more records share than this says nothing. */
const maxBlock = 200;
const chancePairs = 200_000;
const maxRounds = 200;
/** A file may have no families. So, before thresholds are decided, people get so many relatives at home, and twins. */
const relatives = 2;
const twins = 0.01;
/**
 * Estimates for what a file may not have: a level that fewer records of one person than `fewest` are at, or a whole
 * field. They are no figures of anybody's records.
 */
const fewest = 50;
const estimates: { [Of in Field]?: Record<string, { m: number; u: number }> } = {
  given: { nickname: { m: 0.03, u: 0.0008 }, initial: { m: 0.01, u: 0.0005 } },
  dateOfBirth: { "partly known": { m: 0.02, u: 0.002 }, "two parts": { m: 0.01, u: 0.003 } },
  phone: { same: { m: 0.75, u: 0.0005 }, nearly: { m: 0.03, u: 0.001 }, different: { m: 0.22, u: 0.9985 } },
  email: { same: { m: 0.8, u: 0.0005 }, nearly: { m: 0.05, u: 0.001 }, different: { m: 0.15, u: 0.9985 } },
  sex: { same: { m: 0.98, u: 0.5 }, different: { m: 0.02, u: 0.5 } },
};
/** Counted into each level, so that one that was never met is unlikely and not impossible. */
const smoothing = 0.5;

const precisions: Record<Grade, number> = { certain: 0.999, probable: 0.99, possible: 0.9 };

/** Two records by their places in a file. */
export type Pair = { one: number; other: number };

/** All pairs that share a key. */
export function pairsByKeys(records: Features[]): Pair[] {
  const blocks = new Map<number, number[]>();
  for (const [index, features] of records.entries())
    for (const key of matchKeys(features).keys) {
      const block = blocks.get(key);
      if (block) block.push(index);
      else blocks.set(key, [index]);
    }
  const seen = new Set<number>();
  for (const block of blocks.values()) {
    if (block.length > maxBlock) continue;
    for (let at = 1; at < block.length; at++)
      for (let before = 0; before < at; before++) seen.add((block[before] as number) * records.length + (block[at] as number));
  }
  return [...seen].map((pair) => ({ one: Math.floor(pair / records.length), other: pair % records.length }));
}

/** Reproducible numbers below 1 (mulberry32). */
function createRandom(): () => number {
  let state = 20_261_128;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 4_294_967_296;
  };
}

type Shares = Record<Field, Record<string, number>>;

/** How often each level is met, of those who have the field. */
function sharesOf(counted: Iterable<readonly [Comparison, number]>): Shares {
  const counts = Object.fromEntries(
    fields.map((field) => [field, Object.fromEntries(levels[field].map((level) => [level, smoothing]))]),
  ) as Shares;
  for (const [comparison, count] of counted)
    for (const field of fields) {
      const level = comparison[field];
      if (level !== undefined) counts[field][level] = (counts[field][level] ?? 0) + count;
    }
  for (const field of fields) {
    const whole = Object.values(counts[field]).reduce((sum, count) => sum + count, 0);
    for (const level of levels[field]) counts[field][level] = (counts[field][level] ?? 0) / whole;
  }
  return counts;
}

/** Pairs by chance, apart from those that share a key, which are compared anyway. */
function pairsByChance(records: Features[]): Pair[] {
  const random = createRandom();
  const index = () => Math.floor(random() * records.length);
  const keys = records.map((features) => new Set(matchKeys(features).keys));
  const pairs: Pair[] = [];
  for (let made = Math.min(chancePairs, records.length ** 2 / 2); made > 0; made--) {
    const [one, other] = [index(), index()];
    const others = keys[other];
    if (one !== other && ![...(keys[one] ?? [])].some((key) => others?.has(key))) pairs.push({ one, other });
  }
  return pairs;
}

/** Before the first round: records of one person agree mostly. */
function firstGuess(): Shares {
  return Object.fromEntries(
    fields.map((field) => {
      const rest = levels[field].length - 1;
      return [field, Object.fromEntries(levels[field].map((level, at) => [level, at === 0 ? 0.8 : 0.2 / rest]))];
    }),
  ) as Shares;
}

function likelihood(comparison: Comparison, shares: Shares): number {
  let product = 1;
  for (const field of fields) {
    const level = comparison[field];
    if (level !== undefined) product *= shares[field][level] ?? 1;
  }
  return product;
}

/** Expectation maximisation over comparisons and how often each was met. Gives `m`, and how many are of one person. */
function maximise(counted: [Comparison, number][], u: Shares): { m: Shares; matches: number } {
  const whole = counted.reduce((sum, [, count]) => sum + count, 0);
  let [m, others, share] = [firstGuess(), u, 0.1];
  for (let round = 1; ; round++) {
    const chances = counted.map(([comparison]) => {
      const [one, two] = [share * likelihood(comparison, m), (1 - share) * likelihood(comparison, others)];
      return one + two === 0 ? 0 : one / (one + two);
    });
    const before = share;
    m = sharesOf(counted.map(([comparison, count], at) => [comparison, count * (chances[at] ?? 0)] as const));
    others = sharesOf(counted.map(([comparison, count], at) => [comparison, count * (1 - (chances[at] ?? 0))] as const));
    share = counted.reduce((sum, [, count], at) => sum + count * (chances[at] ?? 0), 0) / whole;
    if (Math.abs(share - before) < 1e-9 || round === maxRounds) return { m, matches: share * whole };
  }
}

/** Comparisons that end at the same levels, as one. */
function countLevels(comparisons: Comparison[]): [Comparison, number][] {
  const counted = new Map<string, [Comparison, number]>();
  for (const comparison of comparisons) {
    const key = fields.map((field) => comparison[field] ?? "").join("|");
    const found = counted.get(key);
    if (found) found[1] += 1;
    else counted.set(key, [comparison, 1]);
  }
  return [...counted.values()];
}

/** How many of the records have a word in their names. */
export function frequenciesIn(records: Features[]): Frequencies {
  const counts = new Map<string, number>();
  for (const { names } of records)
    for (const word of new Set(names.flatMap(({ given, family }) => [...given.split(" "), ...family.split(" ")])))
      counts.set(word, (counts.get(word) ?? 0) + 1);
  return { patients: records.length, countOf: (word) => counts.get(word) ?? 0 };
}

/** A pair, how likely it is of one person, and how many pairs of the file it stands for. */
type Judged = { score: number; chance: number; count: number };

/** The least score above which so many of all pairs are of one person. */
function thresholdsOf(judged: Judged[]): Record<Grade, number> {
  const best = judged.toSorted((a, b) => b.score - a.score);
  const thresholds: Record<Grade, number> = { certain: 1_000, probable: 1_000, possible: 1_000 };
  let [right, all] = [0, 0];
  for (const [index, { score, chance, count }] of best.entries()) {
    right += chance * count;
    all += count;
    const next = best[index + 1]?.score ?? score - 1;
    // Scores that are the same, but for the order of their sums.
    if (score - next < 1e-6) continue;
    for (const grade of grades) if (right / all >= precisions[grade]) thresholds[grade] = precise((score + next) / 2);
  }
  return thresholds;
}

/**
 * For each record somebody who lives with them and has another given name: of their family, or, where `isTwin`, of
 * their day of birth too.
 */
function compareWithRelatives(records: Features[], isTwin: boolean): Comparison[] {
  return records.flatMap((one, at) => {
    const other = records[(at * 7 + 1) % records.length] as Features;
    const [own, given] = [one.names[0], other.names[0]?.given];
    if (!own || !given || own.given === given) return [];
    const sibling = { ...one, names: [{ given, family: own.family }], sex: other.sex, born: isTwin ? one.born : other.born };
    return [compare(one, sibling)];
  });
}

type About = Pick<Model, "version" | "trainedOn">;

export function train(records: Features[], isOne: ((pair: Pair) => boolean) | undefined, about: About): Model {
  const compareAt = ({ one, other }: Pair) => compare(records[one] as Features, records[other] as Features);
  const [met, byChance] = [pairsByKeys(records), pairsByChance(records)];
  const [comparisons, others] = [met.map(compareAt), byChance.map(compareAt)];
  const all = (records.length * (records.length - 1)) / 2;
  // Those by chance stand for all pairs that share no key.
  const each = (all - met.length) / byChance.length;
  const u = sharesOf([...comparisons.map((one) => [one, 1] as const), ...others.map((one) => [one, each] as const)]);
  const { m, matches } = maximise(countLevels(comparisons), u);
  const present = Object.assign({}, ...comparisons) as Comparison;
  const model: Model = {
    ...about,
    records: records.length,
    prior: precise(Math.log2(matches / all)),
    fields: Object.fromEntries(fields.map((field) => [field, weightsOf(field, m, u, field in present ? matches : 0)])) as Model["fields"],
    thresholds: { certain: 0, probable: 0, possible: 0 },
  };
  const frequencies = frequenciesIn(records);
  const scores = (compared: Comparison[]) => compared.map((comparison) => scoreOf(model, comparison, frequencies).score);
  const judge = (pairs: Pair[], compared: Comparison[], count: number) =>
    scores(compared).map((score, at): Judged => {
      return { score, chance: isOne ? Number(isOne(pairs[at] as Pair)) : 1 / (1 + 2 ** -score), count };
    });
  const judgeRelatives = (isTwin: boolean, count: number) =>
    scores(compareWithRelatives(records, isTwin)).map((score): Judged => ({ score, chance: 0, count }));
  const judged = [...judge(met, comparisons, 1), ...judge(byChance, others, each)];
  return { ...model, thresholds: thresholdsOf([...judged, ...judgeRelatives(false, relatives), ...judgeRelatives(true, twins)]) };
}

/** Four digits are enough. */
const precise = (number: number) => Number(number.toPrecision(4));

function weightsOf(field: Field, m: Shares, u: Shares, matches: number): Record<string, { m: number; u: number }> {
  const weightOf = (level: string) => {
    const trained = { m: precise(m[field][level] ?? 0), u: precise(u[field][level] ?? 0) };
    return (matches * trained.m < fewest && estimates[field]?.[level]) || trained;
  };
  return Object.fromEntries(levels[field].map((level) => [level, weightOf(level)]));
}

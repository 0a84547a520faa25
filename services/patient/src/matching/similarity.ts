/** How much two texts are alike. */

/**
 * The share of letters that two texts have in common, in about the same order; equal beginnings count more (Winkler).
 */
export function jaroWinkler(one: string, other: string): number {
  if (one === other) return 1;
  const jaro = jaroOf(one, other);
  let prefix = 0;
  while (prefix < 4 && prefix < one.length && one[prefix] === other[prefix]) prefix++;
  return jaro + prefix * 0.1 * (1 - jaro);
}

function jaroOf(one: string, other: string): number {
  const reach = Math.max(Math.floor(Math.max(one.length, other.length) / 2) - 1, 0);
  const taken = new Uint8Array(other.length);
  const common: number[] = [];
  for (let at = 0; at < one.length; at++) {
    const end = Math.min(at + reach + 1, other.length);
    for (let near = Math.max(at - reach, 0); near < end; near++) {
      if (taken[near] || one.charCodeAt(at) !== other.charCodeAt(near)) continue;
      taken[near] = 1;
      common.push(one.charCodeAt(at));
      break;
    }
  }
  if (common.length === 0) return 0;
  let [next, moved] = [0, 0];
  for (let at = 0; at < other.length; at++) if (taken[at] && other.charCodeAt(at) !== common[next++]) moved++;
  return (common.length / one.length + common.length / other.length + (common.length - moved / 2) / common.length) / 3;
}

/** Whether one letter changed, left out or added, or two neighbours swapped, make one text the other. */
export function isOneEditAway(one: string, other: string): boolean {
  const [short, long] = one.length <= other.length ? [one, other] : [other, one];
  if (long.length - short.length > 1) return false;
  let at = 0;
  while (at < short.length && short[at] === long[at]) at++;
  if (long.length > short.length) return short.slice(at) === long.slice(at + 1);
  if (short.slice(at + 1) === long.slice(at + 1)) return true;
  return short[at] === long[at + 1] && short[at + 1] === long[at] && short.slice(at + 2) === long.slice(at + 2);
}

const jaroWinklerOfWords = (one: string, other: string): number =>
  one === other ? 1 : Math.abs(one.length - other.length) > 4 ? 0 : jaroWinkler(one, other);

/** How much of the shorter list of words is in the longer one, in any order. `weightOf` says how much a word counts. */
export function sharedWords(one: string[], other: string[], weightOf: (word: string) => number): number {
  const [short, long] = one.length <= other.length ? [one, other] : [other, one];
  let [shared, whole] = [0, 0];
  const left = [...long];
  for (const word of short) {
    const weight = weightOf(word);
    whole += weight;
    let [best, bestAt] = [0, -1];
    for (const [at, candidate] of left.entries()) {
      const similarity = jaroWinklerOfWords(word, candidate);
      if (similarity > best) [best, bestAt] = [similarity, at];
    }
    if (best < 0.85) continue;
    shared += weight * best;
    left.splice(bestAt, 1);
  }
  return whole === 0 ? 0 : shared / whole;
}

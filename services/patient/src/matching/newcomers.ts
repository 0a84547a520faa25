/** New patients who may be registered already. */
import { AppError } from "@pm/kit/errors";
import type { Duplicates, Newcomer } from "../patients/registration.ts";
import { maxSharers } from "./candidates-store.ts";
import type { Candidate, Matching } from "./matching.ts";

/** So many candidates a refusal shows at most. */
const maxShown = 20;

export function createDuplicates(matching: Matching, toBody: (candidate: Candidate) => object): Duplicates {
  const askedOf = ({ viewer, record, words }: Newcomer) => ({ viewer, part: record, keys: words.keys });

  /** How many of those before each are like them, and the viewer's to see: whom they register themselves, unless they see all. */
  async function countEarlier(newcomers: Newcomer[]): Promise<number[]> {
    const byKey = new Map<number, number[]>();
    const earlier = newcomers.map(({ viewer, words, actor }, index) => {
      const sharers = new Set<number>();
      for (const key of words.keys.filter((key) => !matching.isCommon(key))) {
        const before = byKey.get(key) ?? [];
        byKey.set(key, before);
        before.push(index);
        // A key that more people share says nothing; a file may have the same line a thousand times.
        if (before.length > maxSharers) continue;
        for (const other of before) if (other !== index && (viewer.seesAll || newcomers[other]?.actor === actor)) sharers.add(other);
      }
      return sharers;
    });
    return matching.countAlike(
      newcomers.map(({ record }) => record),
      earlier,
    );
  }

  return {
    async count(newcomers) {
      const [found, earlier] = await Promise.all([matching.find(newcomers.map(askedOf)), countEarlier(newcomers)]);
      return newcomers.map((_, index) => (found[index]?.length ?? 0) + (earlier[index] ?? 0));
    },

    async refusal(newcomer) {
      const [found = []] = await matching.find([askedOf(newcomer)]);
      if (found.length === 0) return undefined;
      const candidates = found.slice(0, maxShown);
      await matching.shown({ actorId: newcomer.actor, requestId: newcomer.requestId }, candidates);
      const message =
        "This person may be registered already: see `candidates`. Look at them; if this is somebody else, send the request with duplicates=allow.";
      return new AppError("already_exists", message, { reason: "POSSIBLE_DUPLICATE", members: { candidates: candidates.map(toBody) } });
    },
  };
}

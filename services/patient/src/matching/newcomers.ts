/** New patients who may be registered already. */
import { AppError } from "@pm/kit/errors";
import type { Duplicates, Look, Newcomer } from "../patients/registration.ts";
import type { SearchWords } from "../tables.ts";
import { findByAnyKey, findByBirthKey, maxSharers } from "./candidates-store.ts";
import type { Candidate, Matching } from "./matching.ts";

/** So many candidates a refusal shows at most. */
const maxShown = 20;

export function createDuplicates(matching: Matching, toBody: (candidate: Candidate) => object): Duplicates {
  /**
   * To look for everybody who shares a key would cost as much as the rest of a create. So a warning counts those who
   * were born on the same day and have names that sound alike, and the work list has the others.
   */
  const looks = {
    closely: {
      findByKeys: findByBirthKey,
      keysOf: ({ birthKeys }: SearchWords) => birthKeys,
      keptUnder: ({ birthKeys }: SearchWords) => birthKeys.slice(0, 1),
    },
    everywhere: { findByKeys: findByAnyKey, keysOf: ({ keys }: SearchWords) => keys, keptUnder: ({ keys }: SearchWords) => keys },
  };

  const find = (newcomers: Newcomer[], { findByKeys, keysOf }: (typeof looks)[Look]) =>
    matching.find(
      newcomers.map(({ viewer, record, words }) => ({ viewer, part: record, keys: keysOf(words) })),
      findByKeys,
    );

  /**
   * How many of those before each are like them, and the viewer's to see: whom they register themselves, unless they
   * see all.
   */
  async function countEarlier(newcomers: Newcomer[], { keysOf, keptUnder }: (typeof looks)[Look]): Promise<number[]> {
    const byKey = new Map<number, number[]>();
    const earlier = newcomers.map(({ viewer, words, actor }, index) => {
      const sharers = new Set<number>();
      for (const key of keysOf(words).filter((key) => !matching.isCommon(key))) {
        const before = byKey.get(key) ?? [];
        // A key that more people share says nothing; a file may have the same line a thousand times.
        if (before.length > maxSharers) continue;
        for (const other of before) if (viewer.seesAll || newcomers[other]?.actor === actor) sharers.add(other);
      }
      for (const key of keptUnder(words)) {
        const before = byKey.get(key);
        if (before) before.push(index);
        else byKey.set(key, [index]);
      }
      return sharers;
    });
    return matching.countAlike(
      newcomers.map(({ record }) => record),
      earlier,
    );
  }

  return {
    async count(newcomers, look) {
      const [found, earlier] = await Promise.all([find(newcomers, looks[look]), countEarlier(newcomers, looks[look])]);
      return newcomers.map((_, index) => (found[index]?.length ?? 0) + (earlier[index] ?? 0));
    },

    async refusal(newcomer) {
      const [found = []] = await find([newcomer], looks.everywhere);
      if (found.length === 0) return undefined;
      const candidates = found.slice(0, maxShown);
      await matching.shown({ actorId: newcomer.actor, requestId: newcomer.requestId }, candidates);
      const message =
        "This person may be registered already: see `candidates`. Look at them; if this is somebody else, send the request with duplicates=allow.";
      return new AppError("already_exists", message, { reason: "POSSIBLE_DUPLICATE", members: { candidates: candidates.map(toBody) } });
    },
  };
}

/** New patients who may be registered already. */
import { AppError } from "@pm/kit/errors";
import type { Queries } from "@pm/kit/postgres/transaction";
import type { Duplicates, Look, Newcomer } from "../patients/registration.ts";
import type { SearchWords } from "../tables.ts";
import { findByAnyKey, findByBirthKey, findWrittenSince, maxSharers } from "./candidates-store.ts";
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

  const find = (newcomers: Newcomer[], { findByKeys, keysOf }: Pick<(typeof looks)[Look], "findByKeys" | "keysOf">) =>
    matching.find(
      newcomers.map(({ viewer, record, words }) => ({ viewer, part: record, keys: keysOf(words) })),
      findByKeys,
    );

  /** How many of those before each are like them, and the viewer's to see: whom they register, unless they see all. */
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

  async function refusal({ actor, requestId }: Newcomer, candidates: Candidate[]): Promise<AppError> {
    await matching.shown({ actorId: actor, requestId }, candidates);
    const message =
      "This person may be registered already: see `candidates`. Look at them; if this is somebody else, send the request with duplicates=allow.";
    return new AppError("already_exists", message, { reason: "POSSIBLE_DUPLICATE", members: { candidates: candidates.map(toBody) } });
  }

  return {
    async count(newcomers, look) {
      const [found, earlier] = await Promise.all([find(newcomers, looks[look]), countEarlier(newcomers, looks[look])]);
      return newcomers.map((_, index) => (found[index]?.length ?? 0) + (earlier[index] ?? 0));
    },

    async search(newcomers) {
      const snapshot = await matching.snapshot();
      const [found, earlier] = await Promise.all([find(newcomers, looks.everywhere), countEarlier(newcomers, looks.everywhere)]);

      /**
       * Those who were found, as they are now, with those who were stored since. Who was deleted meanwhile, or is no
       * longer the viewer's to see, is not among them.
       */
      async function complete(tx: Queries, some: Newcomer[]): Promise<Candidate[][]> {
        const asked = some.map((newcomer) => {
          const known = (found[newcomers.indexOf(newcomer)] ?? []).map(({ patient }) => patient.id);
          return { viewer: newcomer.viewer, part: newcomer.record, keys: newcomer.words.keys, known };
        });
        return matching.find(asked, await findWrittenSince(tx, snapshot), tx);
      }

      return {
        counts: async (tx) => (await complete(tx, newcomers)).map(({ length }, index) => length + (earlier[index] ?? 0)),
        async refusal(tx, newcomer) {
          const [candidates = []] = await complete(tx, [newcomer]);
          return candidates.length > 0 ? refusal(newcomer, candidates.slice(0, maxShown)) : undefined;
        },
      };
    },
  };
}

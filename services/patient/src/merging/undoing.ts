/**
 * Undoes one merge of a survivor that may have taken in several records. A later merge found the survivor with what the
 * undone one had brought, so what it has brought itself is worked out again, as if the undone one had never been.
 */
import type { PatientRecord } from "../tables.ts";
import { type Levels, withoutMergedGrants } from "./grants.ts";
import { type Merge, withoutMergedRecord } from "./records.ts";

/** What a merge changes. */
export type State = { record: PatientRecord; grants: Levels };

/** A merge into a survivor. Its versions of the survivor are `version` and, if it was undone, `undoneVersion`. */
export type Step = Merge<State> & { duplicateId: string; version: number; undoneVersion: number | undefined };

function without(step: Step, now: State, others: State[]): State {
  const part = <Part extends keyof State>(name: Part) => ({
    before: step.before[name],
    after: step.after[name],
    duplicate: step.duplicate[name],
  });
  return {
    record: withoutMergedRecord(
      part("record"),
      now.record,
      others.map(({ record }) => record),
    ),
    grants: withoutMergedGrants(
      part("grants"),
      now.grants,
      others.map(({ grants }) => grants),
    ),
  };
}

/** Takes a merge out of those that hold. */
function remove(live: Step[], step: Step): Step[] {
  const place = live.findIndex(({ duplicateId }) => duplicateId === step.duplicateId);
  const [undone] = live.slice(place, place + 1);
  if (!undone) return live;
  const rest = live.filter((each) => each !== undone);
  return rest.map((later, index) => {
    if (index < place) return later;
    const earlier = rest.slice(0, index).map(({ duplicate }) => duplicate);
    const before = without(undone, later.before, earlier);
    return { ...later, before, after: without(undone, later.after, [...earlier, later.duplicate]) };
  });
}

/**
 * The survivor without what one merge has brought, and as that merge had left it.
 * @param steps all merges into the survivor, also those that were undone
 */
export function undo(steps: Step[], duplicateId: string, now: State): { state: State; left: State } | undefined {
  const events = steps.flatMap((step) => [
    { version: step.version, apply: (live: Step[]) => [...live, step] },
    ...(step.undoneVersion === undefined ? [] : [{ version: step.undoneVersion, apply: (live: Step[]) => remove(live, step) }]),
  ]);
  const live = events.toSorted((a, b) => a.version - b.version).reduce<Step[]>((steps, { apply }) => apply(steps), []);
  const step = live.find((each) => each.duplicateId === duplicateId);
  if (!step) return undefined;
  const others = live.filter((each) => each !== step).map(({ duplicate }) => duplicate);
  return { state: without(step, now, others), left: step.after };
}

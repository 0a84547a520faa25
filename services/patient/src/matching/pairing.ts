/**
 * Keeps the work list of duplicates. One replica walks through all patients once per model, and then follows what changes: it compares
 * each patient with those who share a key, and stores the pairs that may be one person. It stops anywhere and goes on there.
 */
import type { Lifecycle } from "@pm/kit/lifecycle";
import type { Logger } from "@pm/kit/log";
import type { DatabaseSettings } from "@pm/kit/postgres/database";
import { runAsLeader } from "@pm/kit/postgres/leader";
import { type Queries, queriesOn } from "@pm/kit/postgres/transaction";
import type { PatientDatabase } from "../database.ts";
import { keysVersion } from "../patients/blocking-keys.ts";
import { readHorizon } from "../patients/changes-store.ts";
import { featuresOf } from "../patients/features.ts";
import { createSharers, findByAnyKey } from "./candidates-store.ts";
import { createScoring } from "./matching.ts";
import type { Frequencies, Model } from "./model.ts";
import {
  type Keyed,
  lastChange,
  type Place,
  type Progress,
  readChanged,
  readLiving,
  readProgress,
  removeOlderPairs,
  type ScoredPair,
  storePairs,
  walk,
  writeProgress,
} from "./pairing-store.ts";

const batchSize = 200;
const pollMs = 2_000;
/** Changes wait for a moment in which nobody changes anything, but not for longer. */
const maxWaitMs = 300_000;
const firstId = "00000000-0000-0000-0000-000000000000";

type Options = {
  db: PatientDatabase;
  settings: DatabaseSettings;
  model: Model;
  frequencies: () => Promise<Frequencies>;
  /** Whether all patients have keys. */
  isRewritten: () => boolean;
  log: Logger;
  lifecycle: Lifecycle;
};

/** Starts the job. Every replica starts one, and one of them works. */
export function startPairing({ db, settings, log, lifecycle, ...options }: Options): void {
  const step = createStep({ ...options, log });
  runAsLeader({ name: "duplicate_pairs", settings, pool: db.pool, pollMs, step: (client) => step(queriesOn(client)), log, lifecycle });
}

function createStep({ model, frequencies, isRewritten, log }: Pick<Options, "model" | "frequencies" | "isRewritten" | "log">) {
  const version = `${model.version}/${keysVersion}`;
  const scored = createScoring(model);
  const sharers = createSharers();
  let [seen, waitingSince] = [undefined as string | undefined, undefined as number | undefined];

  /** The pairs of patients and others who share a key with them; in a walk those before them, so that each pair is met once. */
  async function pairsOf(client: Queries, keyed: Keyed[], isWalk: boolean): Promise<ScoredPair[]> {
    const found = await sharers.of(
      client,
      keyed.map(({ keys }) => keys),
      findByAnyKey,
    );
    const shared = keyed.map(({ id }, index) => ({
      id,
      others: (found[index] ?? []).filter((other) => (isWalk ? other < id : other !== id)),
    }));
    const patients = await readLiving(client, [...new Set(shared.flatMap(({ id, others }) => (others.length > 0 ? [id, ...others] : [])))]);
    const counts = await frequencies();
    const features = new Map([...patients].map(([id, { record }]) => [id, featuresOf(record)]));
    return shared.flatMap(({ id, others }) =>
      others.flatMap((other): ScoredPair[] => {
        const [one, two] = [features.get(id), features.get(other)];
        const { score, grade } = one && two ? scored(one, two, counts) : {};
        return score !== undefined && grade ? [{ ids: [id, other], score, grade }] : [];
      }),
    );
  }

  async function begin(client: Queries): Promise<Progress> {
    const { server, xid } = await readHorizon(client);
    log.info({ model: version }, "looking for duplicates among all patients");
    return { model: version, afterId: firstId, since: { server, xid, id: firstId } };
  }

  async function walkOn(client: Queries, progress: Progress, afterId: string): Promise<Progress> {
    const next = await walk(client, afterId, batchSize);
    const last = next.at(-1);
    if (last) {
      await storePairs(client, await pairsOf(client, next, true), version, []);
      return { ...progress, afterId: last.id };
    }
    await removeOlderPairs(client, version);
    log.info({ model: version }, "looked for duplicates among all patients");
    return { ...progress, afterId: null };
  }

  /** Whether somebody has just changed a patient: there is time to compare them when it is quiet. */
  async function isBusy(client: Queries): Promise<boolean> {
    const last = await lastChange(client);
    if (last === seen) {
      waitingSince = undefined;
      return false;
    }
    seen = last;
    waitingSince ??= Date.now();
    return Date.now() - waitingSince < maxWaitMs;
  }

  /** Compares the next patients who have changed. Gives the place behind them; undefined if there are no more. */
  async function follow(client: Queries, since: Place): Promise<Place | undefined> {
    const { xid: before } = await readHorizon(client);
    const changed = await readChanged(client, since, before, batchSize);
    const last = changed.at(-1);
    if (!last) return undefined;
    const again = changed.map(({ id }) => id);
    await storePairs(client, await pairsOf(client, changed, false), version, again);
    return { server: since.server, xid: last.xid, id: last.id };
  }

  return async (client: Queries): Promise<"more" | "done"> => {
    if (!isRewritten()) return "done";
    const stored = await readProgress(client);
    const isCurrent = stored?.model === version && stored.since.server === (await readHorizon(client)).server;
    const progress = isCurrent ? stored : await begin(client);
    if (progress.afterId !== null) {
      await writeProgress(client, await walkOn(client, progress, progress.afterId));
      return "more";
    }
    if (await isBusy(client)) return "done";
    const since = await follow(client, progress.since);
    if (since) await writeProgress(client, { ...progress, since });
    return since ? "more" : "done";
  };
}

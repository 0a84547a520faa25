/**
 * Keeps the work list of duplicates. One replica compares all patients once per model, block by block, and then follows
 * what changes: it compares each patient with those who share a key, and stores the pairs that may be one person. It
 * stops anywhere and goes on there.
 */
import { setImmediate as nextTurn } from "node:timers/promises";
import type { Lifecycle } from "@pm/kit/lifecycle";
import type { Logger } from "@pm/kit/log";
import type { DatabaseSettings } from "@pm/kit/postgres/database";
import { runAsLeader, type Step } from "@pm/kit/postgres/leader";
import { type Queries, queriesOn } from "@pm/kit/postgres/transaction";
import type { PatientDatabase } from "../database.ts";
import { keysVersion } from "../patients/blocking-keys.ts";
import { readHorizon } from "../patients/changes-store.ts";
import { featuresOf } from "../patients/features.ts";
import { closeBlocks, nextBlocks, openBlocks } from "./blocks-store.ts";
import { createSharers, findByAnyKey } from "./candidates-store.ts";
import { createScoring } from "./matching.ts";
import type { Frequencies, Model } from "./model.ts";
import {
  hasChanged,
  lastChange,
  type Progress,
  readChanged,
  readLiving,
  readProgress,
  removeOlderPairs,
  type ScoredPair,
  storePairs,
  writeProgress,
} from "./pairing-store.ts";

const changedAtOnce = 200;
/** So many take some milliseconds. */
const pairsAtOnce = 500;
/**
 * To follow somebody costs as much as so many patients of a pass over all. So a pass begins where more of them changed,
 * such as after an import, but not for a few.
 */
const costOfFollowing = 20;
const minChanged = 2_000;
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
  runAsLeader({ name: "duplicate_pairs", settings, pool: db.pool, pollMs, step, log, lifecycle });
}

/** A connection. */
type Client = Parameters<typeof queriesOn>[0];
type StepOptions = Pick<Options, "model" | "frequencies" | "isRewritten" | "log">;

function createStep({ isRewritten, log, ...options }: StepOptions): (client: Client) => Promise<Step> {
  const version = `${options.model.version}/${keysVersion}`;
  const scorePairs = createPairScoring(options);
  const sharers = createSharers();
  const isBusy = createBusy();
  /** The connection that has the blocks of the pass. */
  let openOn: Client | undefined;

  async function begin(db: Queries): Promise<Progress> {
    const { server, xid } = await readHorizon(db);
    log.info({ model: version }, "looking for duplicates among all patients");
    return { model: `${version}/${xid}`, afterId: firstId, since: { server, xid, id: firstId } };
  }

  async function passOn(client: Client, progress: Progress, afterId: string): Promise<Progress> {
    const db = queriesOn(client);
    if (openOn !== client) await openBlocks(db, afterId);
    openOn = client;
    const blocks = await nextBlocks(db);
    const last = blocks.at(-1)?.[0];
    if (last !== undefined) {
      await storePairs(db, await scorePairs(db, blocks.flatMap(pairsIn)), progress.model, []);
      return { ...progress, afterId: last };
    }
    await closeBlocks(db);
    openOn = undefined;
    await removeOlderPairs(db, progress.model);
    log.info({ model: version }, "looked for duplicates among all patients");
    return { ...progress, afterId: null };
  }

  /** Compares the next patients who have changed, or begins again if many have. Undefined if there are no more. */
  async function follow(db: Queries, progress: Progress): Promise<Progress | undefined> {
    const { since, model } = progress;
    const { xid: before } = await readHorizon(db);
    const changed = await readChanged(db, since, before, changedAtOnce);
    const last = changed.at(-1);
    if (!last) return undefined;
    const { patients } = await options.frequencies();
    if (changed.length === changedAtOnce && (await hasChanged(db, since, Math.max(minChanged, Math.round(patients / costOfFollowing)))))
      return begin(db);
    const asked = changed.map(({ keys }) => keys);
    const others = await sharers.of(db, asked, findByAnyKey);
    const pairs = changed.flatMap(({ id }, index) =>
      (others[index] ?? []).filter((other) => other !== id).map((other) => inOrder(id, other)),
    );
    const again = changed.map(({ id }) => id);
    await storePairs(db, await scorePairs(db, pairs), model, again);
    return { ...progress, since: { server: since.server, xid: last.xid, id: last.id } };
  }

  return async (client) => {
    if (!isRewritten()) return "idle";
    const db = queriesOn(client);
    const stored = await readProgress(db);
    const { server } = await readHorizon(db);
    const progress = stored?.model.startsWith(`${version}/`) && stored.since.server === server ? stored : await begin(db);
    if (progress.afterId !== null) {
      await writeProgress(db, await passOn(client, progress, progress.afterId));
      return "more";
    }
    if (await isBusy(db)) return "idle";
    const next = await follow(db, progress);
    if (next) await writeProgress(db, next);
    return next ? "more" : "idle";
  };
}

/** Two patients, the smaller id first: who is compared with whom can decide which of two swapped names weighs more. */
type Pair = readonly [string, string];

const inOrder = (one: string, other: string): Pair => (one < other ? [one, other] : [other, one]);

/** Each two of a block. */
const pairsIn = (ids: string[]): Pair[] => ids.flatMap((one, at) => ids.slice(at + 1).map((other) => [one, other] as const));

/**
 * Gives those pairs of living patients that may be one person. Each patient is read and prepared once, however many
 * pairs they are in.
 */
function createPairScoring({ model, frequencies }: Pick<Options, "model" | "frequencies">) {
  const scored = createScoring(model);
  return async (db: Queries, pairs: Pair[]): Promise<ScoredPair[]> => {
    const records = await readLiving(db, [...new Set(pairs.flat())]);
    const counts = await frequencies();
    const features = new Map([...records].map(([id, record]) => [id, featuresOf(record)]));
    const found: ScoredPair[] = [];
    for (const [index, [firstId, secondId]] of pairs.entries()) {
      // A block of fifty has more than a thousand pairs, and requests are answered between them.
      if (index % pairsAtOnce === pairsAtOnce - 1) await nextTurn();
      const [one, other] = [features.get(firstId), features.get(secondId)];
      const { score, grade } = one && other ? scored(one, other, counts) : {};
      if (score !== undefined && grade) found.push({ firstId, secondId, score, grade });
    }
    return found;
  };
}

/** Whether somebody has just changed a patient: there is time to compare them when it is quiet. */
function createBusy(): (db: Queries) => Promise<boolean> {
  let [seen, waitingSince] = [undefined as string | undefined, undefined as number | undefined];
  return async (db) => {
    const last = await lastChange(db);
    if (last === seen) {
      waitingSince = undefined;
      return false;
    }
    seen = last;
    waitingSince ??= Date.now();
    return Date.now() - waitingSince < maxWaitMs;
  };
}

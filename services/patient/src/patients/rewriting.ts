/**
 * Rewrites what lists find and order patients by, after an upgrade: a million patients take about an hour, while
 * everything runs. It stops anywhere and goes on there, because each row says whether its words are old.
 */
import { setTimeout as delay } from "node:timers/promises";
import type { Lifecycle } from "@pm/kit/lifecycle";
import type { Logger } from "@pm/kit/log";
import { Gauge, metrics } from "@pm/kit/metrics";
import type { DatabaseSettings } from "@pm/kit/postgres/database";
import { runAsLeader, type Step } from "@pm/kit/postgres/leader";
import { type Queries, queriesOn } from "@pm/kit/postgres/transaction";
import type { PatientDatabase } from "../database.ts";
import { countOldWords, hasOldWords, readOldWords, rewriteWords } from "./rewriting-store.ts";
import { searchWords } from "./search.ts";

const batchSize = 100;
/** For each moment of work this many of rest: service and database together take at most a sixth of a core. */
const restFactor = 5;
/** A replica of the version before may still write old words. */
const pollMs = 5_000;
const firstId = "00000000-0000-0000-0000-000000000000";

const remaining = new Gauge({
  name: "patients_with_old_words",
  help: "Patients whose words for the search are still to be rewritten, as the leader knows",
  registers: [metrics],
});

type Options = { db: PatientDatabase; settings: DatabaseSettings; log: Logger; lifecycle: Lifecycle };

/** Starts the job. Every replica starts one, and one of them works; each of them knows whether all is done. */
export function startRewriting({ db, settings, log, lifecycle }: Options): { isDone: () => boolean } {
  let isDone = false;
  const check = () =>
    hasOldWords(db).then(
      (hasOld) => {
        isDone = !hasOld;
      },
      () => undefined,
    );
  const timer = setInterval(check, pollMs);
  lifecycle.onClose("rewriting's check", () => clearInterval(timer));
  void check();
  const step = createStep(log);
  runAsLeader({ name: "patient_rewriting", settings, pool: db.pool, pollMs, step: (client) => step(queriesOn(client)), log, lifecycle });
  return { isDone: () => isDone };
}

function createStep(log: Logger): (client: Queries) => Promise<Step> {
  let [after, total, done] = [firstId, 0, 0];

  async function begin(client: Queries): Promise<void> {
    [total, done] = [await countOldWords(client), 0];
    remaining.set(total);
    if (total > 0) log.info({ patients: total }, "rewriting the words of patients");
  }

  function report(count: number): void {
    const tenths = (of: number) => Math.floor((10 * of) / total);
    if (tenths(done + count) > tenths(done)) log.info({ done: done + count, patients: total }, "rewriting the words of patients");
    done += count;
    remaining.set(Math.max(total - done, 0));
  }

  return async (client) => {
    const started = performance.now();
    if (after === firstId) await begin(client);
    const old = await readOldWords(client, after, batchSize);
    const last = old.at(-1);
    if (!last) {
      after = firstId;
      return "idle";
    }
    await rewriteWords(
      client,
      old.map((patient) => ({ ...patient, words: searchWords(patient.record) })),
    );
    report(old.length);
    after = last.id;
    await delay(restFactor * (performance.now() - started));
    return "more";
  };
}

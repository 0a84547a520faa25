/**
 * Works on the open rebuild in a thread of its own: it computes for minutes, and answers must not wait for it. Its memory
 * is bounded and given back at its end.
 */
import { parentPort, Worker, workerData } from "node:worker_threads";
import { createLogger } from "@pm/kit/log";
import { type DatabaseSettings, openDatabase } from "@pm/kit/postgres/database";
import type { Db, Tables } from "../rollups/store.ts";
import { createRebuilds } from "./rebuild.ts";
import { openRebuild } from "./store.ts";

type Task = { settings: DatabaseSettings; groupId: string; logLevel: string };

export type Rebuilder = {
  /** Works on the open rebuild, if there is one. One process at a time may call this. @throws where it failed. */
  step(): Promise<"more" | "done">;
  /** Leaves the rebuild that is under way, for whoever comes next to begin it again. */
  stop(): Promise<void>;
};

export function createRebuilder(db: Db, task: Task): Rebuilder {
  let worker: Worker | undefined;
  return {
    async step() {
      if (!(await openRebuild(db))) return "done";
      const resourceLimits = { maxOldGenerationSizeMb: 112, maxYoungGenerationSizeMb: 12 };
      const thread = new Worker(new URL(import.meta.url), { workerData: task, resourceLimits });
      worker = thread;
      await new Promise<void>((resolve, reject) => {
        thread.once("error", reject);
        thread.once("exit", (code) => (code === 0 ? resolve() : reject(new Error(`the rebuild ended with ${code}; it begins again`))));
      });
      return "done";
    },
    async stop() {
      await worker?.terminate();
    },
  };
}

if (parentPort) {
  const { settings, groupId, logLevel } = workerData as Task;
  const log = createLogger("analytics", logLevel);
  const database = openDatabase<Tables>({ settings, poolSize: 2, applicationName: "analytics-rebuild", log });
  await createRebuilds({ db: database.kysely, groupId, log }).step();
  await database.kysely.destroy();
}

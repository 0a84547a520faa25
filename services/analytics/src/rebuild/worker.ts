/**
 * Does a rebuild in a thread of its own, because it computes for minutes and requests must not wait for it. The memory
 * of the thread is bounded, and freed when it ends.
 */
import { parentPort, Worker, workerData } from "node:worker_threads";
import { createLogger } from "@pm/kit/log";
import { type DatabaseSettings, openDatabase } from "@pm/kit/postgres/database";
import type { Db, Tables } from "../tables.ts";
import { createRebuilds } from "./rebuild.ts";
import { openRebuild } from "./store.ts";

type Task = { settings: DatabaseSettings; groupId: string; logLevel: string };

const resourceLimits = { maxOldGenerationSizeMb: 112, maxYoungGenerationSizeMb: 12 };

type Rebuilder = {
  /** Does the open rebuild, if there is one. Only one process at a time may call this. @throws Error if it failed */
  step(): Promise<"done" | "idle">;
  /** Ends the thread. The rebuild stays open, and begins again with the next step of any process. */
  stop(): Promise<void>;
};

export function createRebuilder(db: Db, task: Task): Rebuilder {
  let worker: Worker | undefined;
  return {
    async step() {
      if (!(await openRebuild(db))) return "idle";
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
  const db = openDatabase<Tables>({ settings, poolSize: 2, applicationName: "analytics-rebuild", log });
  await createRebuilds({ db, groupId, log }).step();
  await db.kysely.destroy();
}

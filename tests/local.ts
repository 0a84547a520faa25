/** Finds the platform that `npm start` runs in this folder, for commands that work on its data. */
import { join } from "node:path";
import { type Running, readRunning } from "@pm/stack/running";

export const localPlatform = (): Running => readRunning(process.env.PM_DATA_DIR || join(import.meta.dirname, "..", ".data"));

/** The superuser's URL of a database of `npm start`. */
export function localDatabaseUrl(database: string): string {
  return Object.assign(new URL(localPlatform().postgresUrl), { pathname: `/${database}` }).href;
}

export const localBrokers = (): string => localPlatform().brokers.join(",");

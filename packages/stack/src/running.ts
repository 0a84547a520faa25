import { readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import type { Ports, ServiceName } from "./names.ts";

/** Where the parts of a platform are, for commands that look at it or rehearse on it from another process. */
export type Running = {
  gatewayUrl: string;
  admin: { email: string; password: string };
  ports: Ports;
  /** The superuser's, of the database `postgres`. */
  postgresUrl: string;
  brokers: string[];
  /** The processes of Kafka and of each service; none of what runs in a container or elsewhere. */
  pids: Record<ServiceName | "kafka", number[]>;
};

const fileIn = (dataDir: string): string => join(dataDir, "running.json");

/** Only this user may read it, because it has passwords, as the file of secrets beside it. */
export function noteRunning(dataDir: string, running: Running): void {
  writeFileSync(fileIn(dataDir), JSON.stringify(running), { mode: 0o600 });
}

export const forgetRunning = (dataDir: string): void => rmSync(fileIn(dataDir), { force: true });

/** @throws Error if no platform runs on this folder of data */
export function readRunning(dataDir: string): Running {
  try {
    return JSON.parse(readFileSync(fileIn(dataDir), "utf8")) as Running;
  } catch (cause) {
    throw new Error("There is no platform here: run `npm start` first.", { cause });
  }
}

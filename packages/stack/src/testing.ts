/** A database of its own for a test file, with the service's migrations applied. */
export type TestDatabase = { databaseUrl: string; migrationDatabaseUrl: string; drop(): Promise<void> };

/** The broker that this test run shares. */
export type TestKafka = {
  brokers: string[];
  /** Makes `<base>.<random>` (3 partitions) and its `.dead`; returns the first one's name. */
  freshTopic(base: string): Promise<string>;
};

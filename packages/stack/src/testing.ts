import { randomBytes } from "node:crypto";
import { once } from "node:events";
import { existsSync } from "node:fs";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { join } from "node:path";
import { inject } from "vitest";
import type { TestProject } from "vitest/node";
import { type Kafka, startKafka } from "./native/kafka.ts";
import { type DatabaseUrls, type Postgres, query, startPostgres } from "./native/postgres.ts";
import { migrate, ROOT } from "./services.ts";

/** A database for one test file, with the service's migrations applied. */
export type TestDatabase = DatabaseUrls & { drop(): Promise<void> };

/** The broker that all test files of a run share. */
type TestKafka = {
  brokers: string[];
  /**
   * Creates the topics `<base>.<random>` (3 partitions) and `<base>.<random>.dead`, and returns the first one's name.
   */
  freshTopic(base: string): Promise<string>;
};

declare module "vitest" {
  interface ProvidedContext {
    /** The URL at which the process that runs the tests provides Postgres and Kafka. */
    stackUrl: string;
  }
}

/**
 * Creates a database. If `service` is the name of a service, its migrations are applied; for any other name (a
 * package's tests) the database is empty. The first call of a run starts Postgres. Migrations run once, into a
 * template, and every database is a copy of it.
 */
export async function testDatabase(service: string): Promise<TestDatabase> {
  const urls = await request<DatabaseUrls>("database", service);
  const name = new URL(urls.databaseUrl).pathname.slice(1);
  return { ...urls, drop: async () => void (await request("drop", name)) };
}

/** The broker of this run. The first call starts it. */
export async function testKafka(): Promise<TestKafka> {
  const { brokers } = await request<{ brokers: string[] }>("kafka");
  return { brokers, freshTopic: async (base) => (await request<{ topic: string }>("topic", base)).topic };
}

/** Asks the process that runs the tests. Throws its error, such as a program that is missing. */
async function request<T>(what: string, name = ""): Promise<T> {
  const answer = await fetch(`${inject("stackUrl")}/${what}/${name}`, { method: "POST" });
  if (answer.status !== 200) throw new Error(await answer.text());
  return (await answer.json()) as T;
}

/**
 * vitest's globalSetup. It only starts a small HTTP server, which starts Postgres and Kafka when the first test asks
 * for them. A run of unit tests therefore starts neither, and all test files of a run share one of each, although every
 * file runs in its own process.
 */
export async function setup(project: TestProject): Promise<() => Promise<void>> {
  const provisioner = createProvisioner((line) => process.stderr.write(`${line}\n`));
  // In watch mode a changed migration takes effect in the next run.
  project.onTestsRerun(provisioner.forgetTemplates);
  // Other users of this machine share its loopback interface, so a request has to know the first part of the path.
  const secret = randomBytes(16).toString("hex");
  const server = createServer((request, response) => {
    const [, key, what = "", name = ""] = (request.url ?? "").split("/");
    const answer = key === secret ? provisioner.provide(what, name) : Promise.reject(new Error("unknown path"));
    answer.then(
      (body) => response.end(JSON.stringify(body)),
      (error: unknown) => response.writeHead(500).end(error instanceof Error ? error.message : String(error)),
    );
  });
  await once(server.listen(0, "127.0.0.1"), "listening");
  project.provide("stackUrl", `http://127.0.0.1:${(server.address() as AddressInfo).port}/${secret}`);
  return async () => {
    server.close();
    server.closeAllConnections();
    await provisioner.close();
  };
}

function createProvisioner(progress: (line: string) => void) {
  let postgres: Promise<Postgres> | undefined;
  let kafka: Promise<Kafka> | undefined;
  const templates = new Map<string, Promise<string>>();
  const databases = new Set<string>();
  const thePostgres = () => {
    postgres ??= startPostgres({ durable: false, progress });
    return postgres;
  };
  const theKafka = () => {
    kafka ??= startKafka({ progress });
    return kafka;
  };
  const suffix = () => randomBytes(4).toString("hex");
  const makeTemplate = async (service: string): Promise<string> => {
    const template = `${service}_template_${suffix()}`;
    databases.add(template);
    const { databaseUrl, migrationDatabaseUrl } = await (await thePostgres()).createDatabase(service, template);
    if (existsSync(join(ROOT, "services", service, "src", "commands", "migrate.ts"))) {
      await migrate({ name: service, env: { DATABASE_URL: databaseUrl, MIGRATION_DATABASE_URL: migrationDatabaseUrl } });
    }
    return template;
  };
  const drop = async (name: string): Promise<void> => {
    if (!databases.delete(name)) throw new Error(`no database of this test run is called ${name}`);
    await query((await thePostgres()).url, (client) =>
      client.query(`DROP DATABASE IF EXISTS ${client.escapeIdentifier(name)} WITH (FORCE)`),
    );
  };
  const provisions: Record<string, (name: string) => Promise<object>> = {
    async database(service) {
      let template = templates.get(service);
      if (template === undefined) {
        template = makeTemplate(service);
        templates.set(service, template);
      }
      const name = `${service}_test_${suffix()}`;
      databases.add(name);
      return (await thePostgres()).createDatabase(service, name, await template);
    },
    async drop(name) {
      await drop(name);
      return {};
    },
    async kafka() {
      return { brokers: (await theKafka()).brokers };
    },
    async topic(base) {
      const topic = `${base}.${suffix()}`;
      await (await theKafka()).createTopics([{ topic }, { topic: `${topic}.dead` }]);
      return { topic };
    },
  };
  return {
    async provide(what: string, name: string): Promise<object> {
      const provision = provisions[what];
      if (!provision) throw new Error(`there is no provision called "${what}"`);
      return provision(name);
    },
    forgetTemplates: () => templates.clear(),
    async close() {
      const [database, broker] = await Promise.allSettled([postgres, kafka]);
      // A server that runs elsewhere keeps running, so leave nothing of this run in it.
      if (process.env.POSTGRES_URL) for (const name of databases) await drop(name).catch(() => undefined);
      if (broker.status === "fulfilled") await broker.value?.stop();
      if (database.status === "fulfilled") await database.value?.stop();
    },
  };
}

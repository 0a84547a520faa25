import { execFile } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { promisify } from "node:util";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { type Postgres, query, startPostgres } from "../src/native/postgres.ts";
import { installPostgresClient } from "../src/programs/postgres-client.ts";

const script = resolve(import.meta.dirname, "../../../k8s/roles/roles.sh");
const rows = (url: string, sql: string) => query(url, async (client) => (await client.query(sql)).rows);

// It changes the roles and databases of the whole server, so it needs one of its own.
const shared = process.env.POSTGRES_URL ? { skipped: "POSTGRES_URL names a server that others may use" } : {};
describe.skipIf("skipped" in shared)("k8s/roles/roles.sh", { timeout: 120_000, meta: shared }, () => {
  let postgres: Postgres;
  const services = ["patient", "billing", "analytics", "auth"];
  const passwords = mkdtempSync(join(tmpdir(), "pm-roles-"));
  const servers = mkdtempSync(join(tmpdir(), "pm-servers-"));
  const as = (user: string, password: string, database: string) => {
    const url = new URL(postgres.url);
    Object.assign(url, { username: user, password, pathname: database });
    return url.href;
  };
  /** Runs the script as its Job in k8s/rds does. */
  const makeRoles = async () => {
    const { hostname, port } = new URL(postgres.url);
    const bin = await installPostgresClient(() => undefined);
    for (const service of services)
      for (const [key, value] of Object.entries({ host: hostname, username: "master", password: "of-master" }))
        writeFileSync(join(servers, `${service}.${key}`), value);
    await promisify(execFile)("bash", [script], {
      env: { ...process.env, PGPORT: port, PATH: `${bin}:${process.env.PATH}`, SERVERS: servers, PASSWORDS: passwords },
    });
  };

  beforeAll(async () => {
    postgres = await startPostgres({ durable: false });
    for (const service of services)
      for (const role of [service, `${service}-owner`, `${service}-anchor`, `${service}-doctor`])
        writeFileSync(join(passwords, role), `of-${role}`);
    // What RDS gives to those who administer an instance: they make roles and databases, and are no superuser.
    await rows(postgres.url, "CREATE ROLE master LOGIN CREATEDB CREATEROLE PASSWORD 'of-master'");
    await rows(postgres.url, "ALTER DATABASE postgres OWNER TO master");
    await rows(postgres.url, "ALTER DATABASE template1 OWNER TO master");
    await makeRoles();
  }, 300_000);
  afterAll(async () => {
    for (const folder of [passwords, servers]) rmSync(folder, { recursive: true });
    await postgres.stop();
  });

  test("makes the databases and roles without a superuser, with the extensions that migrations need", async () => {
    for (const service of services) {
      const owner = as(`${service}_owner`, `of-${service}-owner`, service);
      await rows(owner, "CREATE TABLE thing (id int, mail citext)");
      expect(await rows(owner, "SELECT extname FROM pg_extension WHERE extname IN ('pg_trgm', 'citext')")).toHaveLength(2);
      await expect(rows(as(service, `of-${service}`, service), "SELECT * FROM thing")).rejects.toThrow("permission denied for table thing");
    }
  });

  test("keeps the roles of a service out of all other databases", async () => {
    for (const database of ["billing", "postgres", "template1"])
      await expect(rows(as("patient", "of-patient", database), "SELECT 1"), database).rejects.toThrow("permission denied for database");
  });

  test("runs again, and then has the changed passwords", async () => {
    writeFileSync(join(passwords, "auth"), "changed");
    await makeRoles();
    expect(await rows(as("auth", "changed", "auth"), "SELECT current_user AS who")).toEqual([{ who: "auth" }]);
  });
});

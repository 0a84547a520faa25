/** Looks into the database of a service: its migrations, its audit chain, and what else the service proves. */
import { readdirSync } from "node:fs";
import { Pool } from "pg";
import { verifyAudit } from "../audit/verify.ts";
import { connectionConfig, type DatabaseSettings } from "../postgres/database.ts";
import { type Finding, reasonOf, runbook } from "./findings.ts";

/** A further look into the database of a service. It throws what Postgres throws. */
export type Look = (pool: Pool) => Promise<Omit<Finding, "part">>;

const oldestMajor = 18;

/** @param options.migrations the folder of this release's migrations */
export async function lookAtDatabase(options: {
  service: string;
  settings: DatabaseSettings;
  migrations: string;
  also?: Look | undefined;
}): Promise<Finding[]> {
  const { service, settings, migrations, also } = options;
  const part = `database of ${service}`;
  // Whatever role is given, nothing can be changed. A server that takes ten seconds to answer is worth a finding.
  const readOnly = { connectionTimeoutMillis: 10_000, application_name: "doctor", options: "-c default_transaction_read_only=on" };
  const pool = new Pool({ ...connectionConfig(settings), ...readOnly, max: 1 });
  pool.on("error", () => undefined);
  try {
    const { rows } = await pool.query<{ version: number }>("select current_setting('server_version_num')::int / 10000 as version");
    const looks: Look[] = [() => Promise.resolve(judgeVersion(rows[0]?.version ?? 0)), lookAtMigrations(migrations), lookAtChain];
    const findings: Finding[] = [];
    for (const look of also ? [...looks, also] : looks) findings.push({ part, ...(await look(pool).catch(notSeen)) });
    return findings;
  } catch (error) {
    const { host, port } = connectionConfig(settings);
    return [{ part, ...notReached(error, `${host}:${port}`) }];
  } finally {
    await pool.end();
  }
}

function judgeVersion(version: number): Omit<Finding, "part"> {
  const says = `Postgres is of version ${version}`;
  if (version >= oldestMajor) return { state: "well", says: `${says}.` };
  return { state: "wrong", says: `${says}, and this release needs ${oldestMajor} or newer.`, help: "docs/kubernetes.md" };
}

const lookAtMigrations =
  (folder: string): Look =>
  async (pool) => {
    const wanted = readdirSync(folder).flatMap((file) => /^(\d.*)\.ts$/.exec(file)?.[1] ?? []);
    const { rows } = await pool.query<{ name: string }>("select name from kysely_migration").catch((error: { code?: string }) => {
      if (error.code === "42P01") return { rows: [] };
      throw error;
    });
    const applied = new Set(rows.map(({ name }) => name));
    const missing = wanted.filter((name) => !applied.has(name)).sort();
    if (missing.length > 0) {
      const says = `It lacks ${missing.length === 1 ? "a migration" : `${missing.length} migrations`} of this release: ${missing.join(", ")}.`;
      return { state: "wrong", says, help: runbook("MigrationFailed") };
    }
    // As after a rollback: the release before works on the newer schema.
    const newer = applied.size - wanted.length;
    const further = newer > 0 ? `, and ${newer} of a newer one` : "";
    return { state: "well", says: `It has every migration of this release${further}.` };
  };

const lookAtChain: Look = async (pool) => {
  const report = await verifyAudit(pool);
  if (report.intact) return { state: "well", says: `The audit chain is intact: ${report.entries.toLocaleString("en")} entries.` };
  return { state: "wrong", says: `The audit chain is broken at entry ${report.entryId}: ${report.problem}.`, help: "docs/audit.md" };
};

function notSeen(error: unknown): Omit<Finding, "part"> {
  return { state: "unseen", says: `It could not be looked into: ${reasonOf(error)}.`, help: "docs/kubernetes.md" };
}

/** Errors of the server name a class by SQLSTATE: 28 is a role or password, 3D a database. The server is well then. */
function notReached(error: unknown, address: string): Omit<Finding, "part"> {
  const reason = reasonOf(error);
  if (/^(28|3D|42)...$/.test(reason)) return notSeen(error);
  if (/CERT|SIGNED|VERIFY|ALTNAME/.test(reason))
    return { state: "wrong", says: `The certificate of Postgres is refused (${reason}).`, help: "docs/kubernetes.md (Rotate)" };
  return { state: "wrong", says: `Postgres does not answer at ${address} (${reason}).`, help: runbook("RequestErrors") };
}

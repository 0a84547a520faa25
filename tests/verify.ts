/**
 * `npm run audit:verify [-- --expect heads --key public.pem]` verifies the audit trails of all services,
 * `npm run ledger:verify` verifies billing's ledger: in the database `DATABASE_URL`, or in those of `npm start`. Exits
 * with 1 if something is wrong.
 */
import { spawnSync } from "node:child_process";
import { join } from "node:path";
import { localDatabaseUrl } from "./local.ts";

const commands: Record<string, { services: string[]; command: string }> = {
  audit: { services: ["patient", "billing", "auth", "analytics"], command: "verify-audit.ts" },
  ledger: { services: ["billing"], command: "verify-ledger.ts" },
};
const [what = "", ...options] = process.argv.slice(2);
const chosen = commands[what];
if (!chosen) throw new Error(`say what to verify: ${Object.keys(commands).join(" or ")}`);

const given = process.env.DATABASE_URL;
for (const service of chosen.services) {
  if (given && !new URL(given).pathname.endsWith(service)) continue;
  process.stdout.write(`${service}: `);
  const path = join(import.meta.dirname, "..", "services", service, "src/commands", chosen.command);
  const env = { ...process.env, DATABASE_URL: given || localDatabaseUrl(service) };
  if (spawnSync(process.execPath, [path, ...options], { env, stdio: "inherit" }).status !== 0) process.exitCode = 1;
}

// Runs before `npm start`, `npm test` and the like. Installs the packages if they are missing or older than the lock
// file. Plain JavaScript without dependencies, because a fresh clone has none. It has to run on any Node that the
// machine may have: the packages bring the Node that runs everything else (npm puts node_modules/.bin first on PATH).
import { spawnSync } from "node:child_process";
import { existsSync, statSync, utimesSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";

const OLDEST_NODE = 20;
const root = fileURLToPath(new URL("../..", import.meta.url));
/** npm writes this file at the very end of an install. If it is missing, no install was completed. */
const installed = join(root, "node_modules", ".package-lock.json");
const wanted = join(root, "package-lock.json");

if (Number(process.versions.node.split(".")[0]) < OLDEST_NODE) {
  fail(`the installation needs Node ${OLDEST_NODE} or newer; ${process.execPath} is Node ${process.versions.node}`);
}
const reason = whyInstall();
if (reason !== undefined) install(reason);

function whyInstall() {
  if (!existsSync(join(root, "node_modules"))) return "there is no node_modules yet";
  if (!existsSync(installed)) return "an earlier install was interrupted";
  if (statSync(installed).mtimeMs < statSync(wanted).mtimeMs) return "package-lock.json is newer than node_modules";
  if (!existsSync(join(root, "node_modules", ".bin", "node"))) return "node_modules has no Node of its own";
  return undefined;
}

/** @param {string} reason */
function install(reason) {
  process.stderr.write(`Installing packages: ${reason}. This runs "npm ci", once, and takes a minute or two.\n`);
  // Run the same npm that runs this script. Include development dependencies even if NODE_ENV is production, because
  // Node 24 is one of them.
  const npm = process.env.npm_execpath;
  // Only show errors. npm's warnings (engines, install scripts) are nothing that a user could act on.
  const args = ["ci", "--include=dev", "--no-audit", "--no-fund", "--loglevel=error"];
  const [command, before] = npm?.endsWith(".js") ? [process.execPath, [npm]] : ["npm", []];
  const { status, signal, error } = spawnSync(command, [...before, ...args], { cwd: root, stdio: "inherit" });
  if (signal !== null) fail(`"npm ci" was ended by ${signal}; run the same command again to continue`);
  if (error) fail(`"npm ci" cannot be run: ${error.message}`);
  if (status !== 0) fail(`"npm ci" failed (exit code ${status}); its output is above. Can this machine reach the package registry?`);
  if (!existsSync(join(root, "node_modules", ".bin", "node"))) {
    fail("the packages are installed, but not their Node 24, because npm's setting ignore-scripts is on: turn it off and run this again");
  }
  // Files of a checkout may have any time, even one in the future. Mark this install as newer than its lock file.
  const now = new Date(Math.max(Date.now(), statSync(wanted).mtimeMs));
  utimesSync(installed, now, now);
  process.stderr.write("Packages are installed.\n");
}

/** @param {string} message */
function fail(message) {
  process.stderr.write(`install: ${message}\n`);
  process.exit(1);
}

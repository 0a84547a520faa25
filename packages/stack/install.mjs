// Runs before `npm start`, `npm test` and the like: installs the packages where they are missing or older than the lock
// file. Plain JavaScript without a dependency, because on a fresh clone there is nothing else, and for whatever Node
// the machine has: the packages bring the Node that runs the rest (npm puts node_modules/.bin first on the path).
import { spawnSync } from "node:child_process";
import { existsSync, statSync, utimesSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";

const OLDEST_NODE = 20;
const root = fileURLToPath(new URL("../..", import.meta.url));
/** npm writes it at the very end of an install: where it is missing, an install was interrupted or never made. */
const installed = join(root, "node_modules", ".package-lock.json");
const wanted = join(root, "package-lock.json");

if (Number(process.versions.node.split(".")[0]) < OLDEST_NODE) {
  fail(`this needs Node ${OLDEST_NODE} or newer to install itself; ${process.execPath} is Node ${process.versions.node}`);
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
  // The npm that runs this script, whatever it is called; development dependencies even where NODE_ENV says production,
  // because Node 24 is one of them.
  const npm = process.env.npm_execpath;
  // Only errors: what npm warns about (engines of packages that Node 24 will run, install scripts) is nothing to act on here.
  const args = ["ci", "--include=dev", "--no-audit", "--no-fund", "--loglevel=error"];
  const [command, before] = npm?.endsWith(".js") ? [process.execPath, [npm]] : ["npm", []];
  const { status, signal, error } = spawnSync(command, [...before, ...args], { cwd: root, stdio: "inherit" });
  if (signal !== null) fail(`"npm ci" was ended by ${signal}; run the same command again to go on`);
  if (error) fail(`"npm ci" cannot be run: ${error.message}`);
  if (status !== 0) fail(`"npm ci" failed (exit code ${status}); what it says is above. Is the package registry within reach?`);
  if (!existsSync(join(root, "node_modules", ".bin", "node"))) {
    fail(
      "the packages are there, but not their Node 24: npm was told not to run install scripts (ignore-scripts); allow them and run this again",
    );
  }
  // Files from a checkout may carry any time, even one to come; this install is newer than the lock file it was made from.
  const now = new Date(Math.max(Date.now(), statSync(wanted).mtimeMs));
  utimesSync(installed, now, now);
  process.stderr.write("Packages are installed.\n");
}

/** @param {string} message */
function fail(message) {
  process.stderr.write(`install: ${message}\n`);
  process.exit(1);
}

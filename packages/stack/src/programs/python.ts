/**
 * Python programs, each in its own virtual environment: one wheel of PyPI by its hash, or packages by their versions.
 */
import { readdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { cached, type Progress } from "./cache.ts";
import { hasProgram, run } from "./child.ts";

/**
 * What this machine lacks to install a Python program; empty if it lacks nothing. `what` names the program to people.
 */
export async function missingForPythonProgram(what: string): Promise<string[]> {
  if (!(await hasProgram("python3")))
    return [
      `Python 3 with venv (program "python3"; Debian: apt install python3-venv, macOS: brew install python), once, to download ${what}`,
    ];
  const hasVenv = await run("python3", ["-c", "import venv, ensurepip"]).then(
    () => true,
    () => false,
  );
  return hasVenv ? [] : [`Python's venv module (Debian: apt install python3-venv), once, to download ${what}`];
}

/** Makes a virtual environment in the folder `venv` and installs one wheel into it. */
export async function installPythonProgram(venv: string, requirement: string, sha256: string): Promise<void> {
  const requirements = join(venv, "requirements.txt");
  await run("python3", ["-m", "venv", venv]);
  writeFileSync(requirements, `${requirement} --hash=sha256:${sha256}\n`);
  const pip = "-m pip install --quiet --disable-pip-version-check --require-hashes --only-binary=:all: --no-deps -r".split(" ");
  await run(join(venv, "bin", "python"), [...pip, requirements]);
}

/**
 * Installs packages (`name==version`) with all that they need, once per version. Returns their virtual environment.
 * @throws Error with the reason if they cannot be installed
 */
export function installPythonPackages(packages: string[], progress: Progress): Promise<string> {
  const name = packages.join("-").replaceAll(/[^a-z0-9.-]+/g, "-");
  return cached(name, progress, async (dir) => {
    const missing = await missingForPythonProgram(packages.join(", "));
    if (missing.length > 0) throw new Error(missing.join(", "));
    progress(`downloading ${packages.join(", ")} with pip (once)`);
    await run("python3", ["-m", "venv", dir]);
    await run(join(dir, "bin", "python"), ["-m", "pip", "install", "--quiet", "--disable-pip-version-check", ...packages]);
  });
}

/** The folder of a virtual environment that holds the installed packages. */
export function packagesIn(venv: string): string {
  const library = join(venv, "lib");
  const python = readdirSync(library).find((name) => name.startsWith("python"));
  return join(library, python ?? "python3", "site-packages");
}

/** Python programs: each is one wheel of PyPI, installed into its own virtual environment and checked by its hash. */
import { readdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
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

/** The folder of a virtual environment that holds the installed packages. */
export function packagesIn(venv: string): string {
  const library = join(venv, "lib");
  const python = readdirSync(library).find((name) => name.startsWith("python"));
  return join(library, python ?? "python3", "site-packages");
}

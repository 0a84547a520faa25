import { join } from "node:path";
import { cached, type Progress } from "@pm/stack/programs/cache";
import { run } from "@pm/stack/programs/child";
import { missingForPythonProgram } from "@pm/stack/programs/python";

const packages = ["authlib==1.9.10", "pyjwt[crypto]==2.15.1", "requests==2.34.2"];

/**
 * Installs authlib and PyJWT into a virtual environment of their own, once per version. Returns the folder.
 * @throws Error with the reason if they cannot be installed.
 */
export function installAuthlib(progress: Progress): Promise<string> {
  const name = packages.join("-").replaceAll(/[^a-z0-9.-]+/g, "-");
  return cached(name, progress, async (dir) => {
    const missing = await missingForPythonProgram("authlib and PyJWT");
    if (missing.length > 0) throw new Error(missing.join(", "));
    await run("python3", ["-m", "venv", dir]);
    await run(join(dir, "bin", "python"), ["-m", "pip", "install", "--quiet", "--disable-pip-version-check", ...packages]);
  });
}

import { join } from "node:path";
import { cached, type Progress } from "@pm/stack/programs/cache";
import { run } from "@pm/stack/programs/child";
import { missingForPythonProgram } from "@pm/stack/programs/python";

const version = "5.0.0";

/**
 * Installs Splink into a virtual environment of its own, once per version. Returns the folder.
 * @throws Error with the reason if it cannot be installed
 */
export function installSplink(progress: Progress): Promise<string> {
  return cached(`splink-${version}`, progress, async (dir) => {
    const missing = await missingForPythonProgram("Splink");
    if (missing.length > 0) throw new Error(missing.join(", "));
    await run("python3", ["-m", "venv", dir]);
    await run(join(dir, "bin", "python"), ["-m", "pip", "install", "--quiet", "--disable-pip-version-check", `splink==${version}`]);
  });
}

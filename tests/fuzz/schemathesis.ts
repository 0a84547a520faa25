import { join } from "node:path";
import { cached, type Progress } from "@pm/stack/programs/cache";
import { run } from "@pm/stack/programs/child";
import { missingForPythonProgram } from "@pm/stack/programs/python";

const version = "4.32.5";

/**
 * Installs schemathesis into its own virtual environment, once per version. Returns the folder.
 * @throws Error with the reason if it cannot be installed.
 */
export function installSchemathesis(progress: Progress): Promise<string> {
  return cached(`schemathesis-${version}`, progress, async (dir) => {
    const missing = await missingForPythonProgram("schemathesis");
    if (missing.length > 0) throw new Error(missing.join(", "));
    await run("python3", ["-m", "venv", dir]);
    await run(join(dir, "bin", "python"), ["-m", "pip", "install", "--quiet", "--disable-pip-version-check", `schemathesis==${version}`]);
  });
}

import { join } from "node:path";
import { cached, type Progress } from "@pm/stack/programs/cache";
import { run } from "@pm/stack/programs/child";
import { missingForWheels } from "@pm/stack/programs/wheels";

const version = "4.32.5";

/**
 * schemathesis in a virtual environment of its own, made once per version.
 * @throws Error where it cannot be had, with the reason.
 */
export function installSchemathesis(progress: Progress): Promise<string> {
  return cached(`schemathesis-${version}`, progress, async (dir) => {
    const missing = await missingForWheels("schemathesis");
    if (missing.length > 0) throw new Error(missing.join(", "));
    await run("python3", ["-m", "venv", dir]);
    await run(join(dir, "bin", "python"), ["-m", "pip", "install", "--quiet", "--disable-pip-version-check", `schemathesis==${version}`]);
  });
}

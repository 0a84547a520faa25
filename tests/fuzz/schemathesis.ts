import type { Progress } from "@pm/stack/programs/cache";
import { installPythonPackages } from "@pm/stack/programs/python";

/** Installs schemathesis. Returns its virtual environment. @throws Error with the reason if it cannot. */
export function installSchemathesis(progress: Progress): Promise<string> {
  return installPythonPackages(["schemathesis==4.32.5"], progress);
}

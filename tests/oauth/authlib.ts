import type { Progress } from "@pm/stack/programs/cache";
import { installPythonPackages } from "@pm/stack/programs/python";

/** Installs authlib and PyJWT. Returns their virtual environment. @throws Error with the reason if it cannot. */
export function installAuthlib(progress: Progress): Promise<string> {
  return installPythonPackages(["authlib==1.9.10", "pyjwt[crypto]==2.15.1", "requests==2.34.2"], progress);
}

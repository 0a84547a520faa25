import { globSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { Progress } from "@pm/stack/programs/cache";
import { run } from "@pm/stack/programs/child";
import { installPythonPackages } from "@pm/stack/programs/python";
import type { FhirResource } from "fhir/r4.js";

/** Returns the folder of smart-fetch's environment. @throws Error with the reason if it cannot be had */
export const installSmartFetch = (progress: Progress): Promise<string> => installPythonPackages(["smart-fetch==1.0.3"], progress);

/** How it proves who asks: by a token, or by the key of a client, as PEM or JWKS. */
export type Proof = { token: string } | { clientId: string; key: string };

/** Downloads everything of some types in bulk, as a researcher does. */
export async function fetchInBulk(venv: string, base: string, proof: Proof, types: string[]): Promise<FhirResource[]> {
  const folder = mkdtempSync(join(tmpdir(), "pm-smart-fetch-"));
  try {
    const secret = join(folder, "secret.jwks");
    writeFileSync(secret, "token" in proof ? proof.token : proof.key, { mode: 0o600 });
    const credentials = "token" in proof ? ["--bearer-token", secret] : ["--smart-client-id", proof.clientId, "--smart-key", secret];
    const output = join(folder, "files");
    const options = ["--fhir-url", base, ...credentials, "--type", types.join(","), "--no-compression", "--no-default-filters", output];
    // Its own script names the folder in which it was installed, before that was moved into the cache.
    const main = "import sys; from smart_fetch.cli.main import main_cli; sys.exit(main_cli())";
    await run(join(venv, "bin", "python"), ["-c", main, "bulk", ...options]);
    const files = globSync(join(output, "*.ndjson")).filter((file) => !file.endsWith("log.ndjson"));
    return files.flatMap((file) => readFileSync(file, "utf8").split("\n").filter(Boolean)).map((line) => JSON.parse(line) as FhirResource);
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

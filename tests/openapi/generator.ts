import { readdirSync } from "node:fs";
import { join } from "node:path";
import { cached, type Progress } from "@pm/stack/programs/cache";
import { downloadJars, missingForJars, requireJavac } from "@pm/stack/programs/java";
import { OPENAPI_GENERATOR } from "@pm/stack/versions";

/**
 * The jar of openapi-generator and the class path of the Java clients that it makes, downloaded once per version.
 * @throws Error if they cannot be had, with the reason
 */
export async function installGenerator(progress: Progress): Promise<{ jar: string; classPath: string }> {
  await requireJavac();
  const dir = await cached(`openapi-generator-${OPENAPI_GENERATOR.version}`, progress, async (target) => {
    const missing = await missingForJars("openapi-generator");
    if (missing.length > 0) throw new Error(missing.join(", "));
    progress("openapi-generator: downloading it with Maven (35 MB, once)");
    await downloadJars(target, OPENAPI_GENERATOR);
  });
  const jars = readdirSync(dir).map((name) => join(dir, name));
  const isGenerator = (jar: string) => jar.includes("openapi-generator-cli");
  return { jar: jars.find(isGenerator) ?? "", classPath: jars.filter((jar) => !isGenerator(jar)).join(":") };
}

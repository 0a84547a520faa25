/** Kafka's jars, and whether this machine can run them. */
import { cached, isCached, type Progress } from "../programs/cache.ts";
import { downloadJars, javaProgram, javaVersion, missingForJars } from "../programs/java.ts";
import { KAFKA } from "../versions.ts";

const CACHE_NAME = `kafka-${KAFKA.version}`;

/** What this machine lacks to run Kafka natively; empty if it lacks nothing. */
export async function missingForKafka(): Promise<string[]> {
  const missing: string[] = [];
  const version = await javaVersion();
  if (version === undefined)
    missing.push(`Java ${KAFKA.java} or newer (program "java"; Debian: apt install openjdk-17-jre-headless, macOS: brew install openjdk)`);
  else if (version < KAFKA.java)
    missing.push(`Java ${KAFKA.java} or newer: "${javaProgram("java")}" is Java ${version} (point JAVA_HOME to a newer one)`);
  if (!isCached(CACHE_NAME)) missing.push(...(await missingForJars("Kafka")));
  return missing;
}

/** Returns the folder of Kafka's jars. Downloads them if they are not in the cache. */
export async function installKafka(progress: Progress): Promise<string> {
  const missing = await missingForKafka();
  if (missing.length > 0)
    throw new Error(`Kafka needs a Docker engine or, to run without one:\n${missing.map((line) => `  - ${line}`).join("\n")}`);
  return cached(CACHE_NAME, progress, async (dir) => {
    progress(`kafka: downloading Apache Kafka ${KAFKA.version} with Maven (44 MB, once)`);
    await downloadJars(dir, KAFKA);
  });
}

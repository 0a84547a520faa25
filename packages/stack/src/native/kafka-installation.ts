/** Kafka's jars, downloaded by Maven, and the Java that runs them. */
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { cached, digestOf, isCached, type Progress } from "../programs/cache.ts";
import { hasProgram, run } from "../programs/child.ts";
import { KAFKA } from "../versions.ts";

const CACHE_NAME = `kafka-${KAFKA.version}`;

/** What this machine lacks to run Kafka natively; empty if it lacks nothing. */
export async function missingForKafka(): Promise<string[]> {
  const missing: string[] = [];
  const version = await javaVersion();
  if (version === undefined)
    missing.push(`Java ${KAFKA.java} or newer (program "java"; Debian: apt install openjdk-17-jre-headless, macOS: brew install openjdk)`);
  else if (version < KAFKA.java)
    missing.push(`Java ${KAFKA.java} or newer: "${javaCommand()}" is Java ${version} (point JAVA_HOME to a newer one)`);
  if (!isCached(CACHE_NAME) && !(await hasProgram("mvn")))
    missing.push('Maven (program "mvn"; Debian: apt install maven, macOS: brew install maven), once, to download Kafka');
  return missing;
}

/** Returns the folder of Kafka's jars. Downloads them if they are not in the cache. */
export async function installKafka(progress: Progress): Promise<string> {
  const missing = await missingForKafka();
  if (missing.length > 0)
    throw new Error(`Kafka needs a Docker engine or, to run without one:\n${missing.map((line) => `  - ${line}`).join("\n")}`);
  return cached(CACHE_NAME, progress, async (dir) => {
    progress(`kafka: downloading Apache Kafka ${KAFKA.version} with Maven (44 MB, once)`);
    await copyJars(dir);
    const digest = digestOf(dir);
    if (digest === KAFKA.sha256) return;
    throw new Error(
      `the jars that Maven downloaded for Kafka ${KAFKA.version} are not the pinned ones (SHA-256 ${digest} instead of ${KAFKA.sha256}): check whether Maven's repository can be trusted`,
    );
  });
}

export function javaCommand(): string {
  const home = process.env.JAVA_HOME;
  return home !== undefined && home !== "" ? join(home, "bin", "java") : "java";
}

/** Lets Maven copy Kafka's jars and their dependencies into a folder. */
async function copyJars(dir: string): Promise<void> {
  const work = mkdtempSync(join(tmpdir(), "pm-maven-"));
  const dependencies = KAFKA.artifacts.map(
    ({ group, artifact, version }) =>
      `<dependency><groupId>${group}</groupId><artifactId>${artifact}</artifactId><version>${version}</version></dependency>`,
  );
  writeFileSync(
    join(work, "pom.xml"),
    `<project xmlns="http://maven.apache.org/POM/4.0.0"><modelVersion>4.0.0</modelVersion><groupId>stack</groupId><artifactId>kafka</artifactId><version>1</version><dependencies>${dependencies.join("")}</dependencies></project>`,
  );
  try {
    await run("mvn", ["-q", "-B", `${KAFKA.plugin}:copy-dependencies`, "-DincludeScope=runtime", `-DoutputDirectory=${dir}`], {
      cwd: work,
    });
  } finally {
    rmSync(work, { recursive: true, force: true });
  }
}

/**
 * The major version of the Java to use; undefined if there is none. On macOS a `java` exists that only says that there
 * is none.
 */
async function javaVersion(): Promise<number | undefined> {
  const output = await run(javaCommand(), ["--version"]).catch(() => "");
  const major = /\b(\d+)(\.\d+)*/.exec(output)?.[1];
  if (major !== undefined) return Number(major);
  // Java 8 does not know --version.
  return run("sh", ["-c", `"$1" -version 2>&1`, "sh", javaCommand()]).then(
    (text) => (/version "1\.(\d+)/.exec(text) ? 8 : undefined),
    () => undefined,
  );
}
